"""What NIQE takes good photos to be like: a file of its authors, or photos of one's own."""

from jobs.console import say
from jobs.errors import JobError
from laformer.niqe import Pristine, fit, read
from pipelines import images, storage
from pipelines.errors import ImageError, StorageError


def pristine(where: str) -> Pristine:
    """Return the parameters of a file, or fit them to the photos of a folder.

    Raises JobError when there are none.
    """
    uri = storage.absolute(where)
    try:
        if uri.lower().endswith((".npz", ".mat")):
            found = read(storage.get(uri))
        else:
            keys = storage.list_table(uri, images.SUFFIXES)["key"].to_pylist()
            root = storage.folder_of(uri, keys[:2])
            photos = (images.decode(storage.get(storage.join(root, key))) for key in keys)
            found = fit(images.eight_bit(photo.pixels) for photo in photos)
            say(f"NIQE fitted to {len(keys)} photos of {uri}: {found.name}")
    except (ValueError, ImageError, StorageError) as error:
        raise JobError(f"--niqe {where}: {error}") from error
    return found
