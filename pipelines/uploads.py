"""Files too large for memory, to and from storage, whole or not at all."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

from pipelines import clients, storage
from pipelines.errors import NameRefusedError

PART_BYTES: Final = 2**26
"""Bytes that travel at a time: S3 takes 10,000 parts of an object, here 640 GB."""


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """Give a local path of the object; a remote one is fetched in parts and removed afterwards."""
    if not storage.is_remote(uri):
        yield Path(storage.absolute(uri))
        return
    with tempfile.NamedTemporaryFile() as file:
        at, left = 0, storage.num_bytes(uri)
        while at < left:
            data = storage.get_range(uri, at, min(PART_BYTES, left - at))
            file.write(data)
            at += len(data)
        file.flush()
        yield Path(file.name)


@contextmanager
def scratch_file(uri: str) -> Iterator[Path]:
    """Give a path to write to; when the block ends without an error its content becomes the object.

    Readers see the old object or the new. Beside a local target, so that it only takes its name.
    """
    path = None if storage.is_remote(uri) else Path(storage.absolute(uri))
    scratch = storage.tried(uri, lambda: _scratch(path))
    try:
        yield scratch
        if path is None and uri.startswith("gs://"):
            storage.tried(uri, lambda: _upload_gs(uri.removeprefix("gs://"), scratch))
        elif path is None:
            _upload_s3(uri, scratch)
        else:
            storage.tried(uri, lambda: _rename(scratch, path))
    except OSError as error:
        raised = error  # a disk that is full, for example: storage knows the words
        storage.tried(uri, lambda: _raise(raised))
    finally:
        scratch.unlink(missing_ok=True)


def _scratch(path: Path | None) -> Path:
    """Return a new file beside `path`, or in the temporary folder."""
    if path is not None:
        # A device would be replaced by a plain file.
        if path.exists() and not path.is_file():
            raise NameRefusedError(f"{path} is a folder or a device, not a file; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
    folder = None if path is None else path.parent
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    os.close(handle)
    return Path(name)


def _rename(scratch: Path, path: Path) -> None:
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.chmod(0o666 & ~_umask())
    scratch.replace(path)


def _raise(error: OSError) -> NoReturn:
    raise error


def _umask() -> int:
    """Return what this process takes from the rights of new files; it can be read by writing."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _upload_gs(place: str, path: Path) -> None:
    """Upload under a hidden name and let Google copy that object.

    An upload that fails is closed, and would be there, cut off, under its name.
    """
    client = clients.arrow("gs")
    hidden = f"{place.rpartition('/')[0]}/.{uuid.uuid4().hex}.part"
    try:
        with client.open_output_stream(hidden) as stream, path.open("rb") as file:
            while data := file.read(PART_BYTES):
                stream.write(data)
        client.copy_file(hidden, place)
    finally:
        with contextlib.suppress(OSError):
            client.delete_file(hidden)


def _upload_s3(uri: str, path: Path) -> None:
    """Upload in parts; an upload that fails is called off and leaves nothing."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    place = {"Bucket": bucket, "Key": key}

    def call(method: str, **arguments: Any) -> dict[str, Any]:
        return storage.tried(uri, lambda: clients.call_s3(method, **place, **arguments))

    upload = call("create_multipart_upload")["UploadId"]
    try:
        parts: list[dict[str, Any]] = []
        with path.open("rb") as file:
            while data := file.read(PART_BYTES):
                number = len(parts) + 1
                done = call("upload_part", UploadId=upload, PartNumber=number, Body=data)
                parts.append({"ETag": done["ETag"], "PartNumber": number})
        call("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts})
    except BaseException:
        call("abort_multipart_upload", UploadId=upload)
        raise
