"""The errors a user can act on: each message names the value, the rule and the next act."""


class DataError(Exception):
    """Base of every error of this package that a user can act on."""


class StorageError(DataError):
    """A uri that cannot be listed, read or written."""


class OutageError(StorageError):
    """Storage that failed in a way that passes: what it holds is neither lost nor bad."""


class NameRefusedError(StorageError):
    """A name that a place cannot hold, too long or taken by a folder: others are none the worse."""


class ImageError(DataError):
    """Bytes that are no image, or an image that a format cannot hold.

    `kind` says in a word what is wrong, so that many can be counted: "empty", "damaged", "no
    image", "too large" or "unsupported".
    """

    def __init__(self, message: str, kind: str = "unsupported") -> None:
        super().__init__(message)
        self.kind = kind


class ManifestError(DataError):
    """A table of images that is missing, damaged or of another shape."""


class OldManifestError(ManifestError):
    """A manifest whose columns are those of another version."""
