"""Uri -> bytes: list, get, put, exists and delete, on disk and in object storage.

A uri is a local path, `file://...`, `s3://bucket/prefix` or `gs://bucket/prefix`. Keys are taken
literally: `#`, `%`, `+`, `?`, spaces and any script are part of the name. Only a `file://` uri is
percent-decoded, as its standard wants. Credentials and endpoints come from the environment alone.

An S3 upload above a few MB goes in parts and appears when the last one is accepted; parts of a
killed upload are invisible but kept, so give the bucket a rule that expires unfinished uploads.
"""

import contextlib
import errno
import functools
import itertools
import os
import secrets
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pipelines import arrival, clients, faults, retries
from pipelines.errors import NameRefusedError, OutageError, StorageError
from pipelines.faults import Fault
from pipelines.pages import Bucket, Entry, Page, UnorderedError

MAX_ATTEMPTS = 6
"""Attempts of ours at one call; the clients below try each of their requests three times."""

FIRST_DELAY_S = 0.25
"""Upper bound of the first pause; it doubles with every attempt, up to MAX_DELAY_S."""

MAX_DELAY_S = 4.0
"""Upper bound of a pause between two attempts."""

GIVE_UP_S = 10.0
"""No new attempt after this many seconds: a dead endpoint is reported, not waited for."""

CHUNK_ENTRIES = 65536
"""Entries of a listing that exist as Python's values at a time."""

_T = TypeVar("_T")

_Filter = Callable[[str], bool]


@dataclass(frozen=True)
class _Object:
    """A place in object storage; `key` is empty for the bucket itself."""

    scheme: str
    bucket: str
    key: str

    @property
    def path(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


class _ShortReadError(OSError):
    """Fewer or more bytes arrived than the store announced."""


class _DamagedError(OSError):
    """Other bytes arrived than the store holds."""


def absolute(uri: str) -> str:
    """Return a local path made absolute or a remote uri as it is; a trailing slash is dropped."""
    match _locate(uri):
        case Path() as path:
            return str(path.absolute())
        case place:
            return f"{place.scheme}://{place.path}"


def join(root: str, *parts: str) -> str:
    """Return the uri of `parts` below `root`; a part that could leave the root is an error."""
    for part in parts:
        if {"", ".", ".."}.intersection(part.split("/")):
            raise StorageError(
                f"key {part!r} is not a plain relative path; leave out a leading '/', '//', '.' "
                "and '..'"
            )
    match _locate(root):
        case Path() as path:
            return str(path.joinpath(*parts))
        case place:
            return "/".join((f"{place.scheme}://{place.path}", *parts))


def is_remote(uri: str) -> bool:
    """Tell whether the uri is in object storage."""
    return isinstance(_locate(uri), _Object)


def list_entries(root: str, suffixes: tuple[str, ...]) -> list[Entry]:
    """List the files below `root` as `list_table` does, one value each."""
    columns = list_table(root, suffixes).to_pydict()
    return [Entry(*row) for row in zip(*columns.values(), strict=True)]


def list_table(root: str, suffixes: tuple[str, ...]) -> Any:
    """List the files below `root` whose names end in one of `suffixes`, sorted by key.

    Returns an Arrow table {key, num_bytes, etag}, which holds millions. Case of the suffix does not
    matter; names with a leading dot, and folders of that kind, are left out. A root that is one
    file is listed whatever its suffix: its key is its name and belongs to the folder around it.
    Object storage has no folders: nothing there is an empty table.
    """
    wanted = functools.partial(_is_wanted, tuple(suffix.lower() for suffix in suffixes))
    match _locate(root):
        case Path() as path:
            found = _attempt(root, lambda: _table(root, _list_local(path, wanted)))
        case _Object(scheme="s3") as place:
            found = _list_s3(root, place, wanted)
        case place:
            found = _attempt(root, lambda: _table(root, _list_gs(place, wanted)))
    return found.sort_by("key")


def folder_of(root: str, keys: list[str]) -> str:
    """Return what the keys of a listing are below: of one file, the folder around it."""
    folder, _, name = root.rpartition("/")
    return folder if keys == [name] else root


def get(uri: str) -> bytes:
    """Read the whole object; trouble on the way is tried again, a refusal is not."""
    return _attempt(uri, functools.partial(_read, uri))


def get_range(uri: str, offset: int, num_bytes: int) -> bytes:
    """Read exactly these bytes of the object; what `get` tries again, this does too."""
    if offset < 0 or num_bytes < 0:
        raise ValueError(f"{num_bytes} bytes from {offset} are no range; give two counts >= 0")
    return _attempt(uri, functools.partial(_read_range, uri, offset, num_bytes))


def num_bytes(uri: str) -> int:
    """Return the size of the object."""
    return _attempt(uri, functools.partial(_num_bytes, uri))


def tried(uri: str, work: Callable[[], _T]) -> _T:
    """Return what `work` on an object returns: trouble is tried again, as `get` does it."""
    return _attempt(uri, work)


def put(uri: str, data: bytes) -> None:
    """Write the whole object or nothing: readers see the old content or the new, never a part."""
    _attempt(uri, functools.partial(_write, uri, data))


def exists(uri: str) -> bool:
    """Tell whether there is a file, object or folder; a bucket that is not there holds nothing."""
    return _attempt(uri, functools.partial(_exists, uri))


def delete(uri: str) -> None:
    """Remove the file or object; one that is not there is fine."""
    _attempt(uri, functools.partial(_delete, uri))


def _locate(uri: str) -> Path | _Object:
    scheme, separator, rest = uri.partition("://")
    if not uri or "\0" in uri:
        raise StorageError(f"uri {uri!r} names no place; give a path, s3://bucket or gs://bucket")
    try:
        uri.encode(errors="strict" if separator else "surrogateescape")
    except UnicodeEncodeError as error:
        raise StorageError(f"uri {uri!r} is no text that a file or object can be called") from error
    if not separator:
        return Path(uri)
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise StorageError(f"{uri} names the host {host!r}; write file:///folder for this one")
        return Path("/" + urllib.parse.unquote(path))
    if scheme not in ("s3", "gs"):
        raise StorageError(f"{uri} has the scheme {scheme!r}; use a path, file://, s3:// or gs://")
    bucket, _, key = rest.rstrip("/").partition("/")
    # The S3 client folds '..' in a key as a browser would, and so reaches another object.
    if not bucket or (key and {"", ".", ".."}.intersection(key.split("/"))):
        raise StorageError(f"{uri} has no bucket, or '//', '/./' or '/../' in it; leave these out")
    return _Object(scheme, bucket, key)


def _attempt(uri: str, work: Callable[[], _T]) -> _T:
    start_s = time.monotonic()
    # A seeded generator would make all workers of a job come back at the same moment.
    jitter = secrets.SystemRandom()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return work()
        except OSError as error:
            fault = _diagnose(uri, error)
            late = attempt == MAX_ATTEMPTS or time.monotonic() - start_s > GIVE_UP_S
            if late or not fault.retry:
                kind = NameRefusedError if fault.about_name else StorageError
                kind = OutageError if fault.retry else kind
                raise kind(_explain(uri, fault, error)) from error
        retries.count()
        time.sleep(jitter.uniform(0.5, 1) * min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (attempt - 1)))
    raise AssertionError("the last attempt returns or raises")


def _diagnose(uri: str, error: OSError) -> Fault:
    code = faults.code_of(error)
    place = _locate(uri)
    if code in ("enoent", "404", "notfound", "resourcenotfound") and isinstance(place, _Object):
        # Both clients answer a missing bucket with "no such key".
        try:
            code = code if _exists(f"{place.scheme}://{place.bucket}") else "nosuchbucket"
        except OSError as other:
            code = faults.code_of(other)
    return faults.find(code)


def _explain(uri: str, fault: Fault, error: OSError) -> str:
    match _locate(uri):
        case _Object("gs", bucket, _):
            endpoint = os.environ.get("STORAGE_EMULATOR_HOST", "Google Cloud Storage")
            names = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS")
        case _Object(_, bucket, _):
            endpoint = clients.s3_endpoint() or "Amazon S3"
            names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        case _:
            bucket, endpoint, names = "", "the disk", ("the mount", "the owner")
    meaning = fault.meaning.format(
        bucket=bucket, endpoint=endpoint, endpoint_name=names[0], credentials=names[1]
    )
    return f"{uri}: {meaning} ({str(error).strip() or type(error).__name__})"


def _read(uri: str) -> bytes:
    match _locate(uri):
        case Path() as path:
            # A pipe would be waited for, and some devices never end.
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise StorageError(f"{path} is a pipe or a device, not a file; remove it")
            with path.open("rb") as file:
                return _whole(file.read(), os.fstat(file.fileno()).st_size)
        case place:
            data, digest = _fetch(place)
            if digest is not None and not arrival.is_intact(data, digest, place.bucket):
                # Of the same object twice: other bytes than its digest says are then its own.
                again, _ = _fetch(place)
                if again != data:
                    raise _DamagedError(f"two reads of {len(data)} bytes differ")
                arrival.trust(place.bucket)
            return data


def _fetch(place: _Object) -> tuple[bytes, str | None]:
    """Return an object and the digest that the store has of it, if it is one to check."""
    with clients.arrow(place.scheme).open_input_file(place.path) as stream:
        data = _whole(stream.read(), stream.size())
        digest = arrival.digest_of(stream.metadata()) if place.scheme == "s3" else None
    return data, digest


def _whole(data: bytes, num_bytes: int) -> bytes:
    if len(data) != num_bytes:
        raise _ShortReadError(f"{len(data)} of {num_bytes} bytes")
    return data


def _read_range(uri: str, offset: int, num_bytes: int) -> bytes:
    match _locate(uri):
        case Path() as path:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(num_bytes)
        case place:
            with clients.arrow(place.scheme).open_input_file(place.path) as stream:
                # Beyond the end the client would raise an error without a code.
                num_left = max(stream.size() - offset, 0)
                data = stream.read_at(min(num_bytes, num_left), offset) if num_left else b""
    if len(data) != num_bytes:
        raise _ShortReadError(f"{len(data)} of {num_bytes} bytes from {offset}")
    return bytes(data)


def _num_bytes(uri: str) -> int:
    match _locate(uri):
        case Path() as path:
            return path.stat().st_size
        case place:
            with clients.arrow(place.scheme).open_input_file(place.path) as stream:
                return int(stream.size())


def _write(uri: str, data: bytes) -> None:
    match _locate(uri):
        case Path() as path:
            _write_local(path, data)
        case place:
            with clients.arrow(place.scheme).open_output_stream(place.path) as stream:
                stream.write(data)


def _write_local(path: Path, data: bytes) -> None:
    # Replacing works on a device or a pipe too, and would leave a plain file in its place.
    if path.exists() and not path.is_file():
        raise NameRefusedError(f"{path} is a folder or a device, not a file; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not made of the name, which may already be as long as a name can be.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _exists(uri: str) -> bool:
    match _locate(uri):
        case Path() as path:
            return path.exists()
        case place:
            from pyarrow import fs  # noqa: PLC0415

            kind = clients.arrow(place.scheme).get_file_info(place.path).type
            return bool(kind != fs.FileType.NotFound)


def _delete(uri: str) -> None:
    match _locate(uri):
        case Path() as path:
            path.unlink(missing_ok=True)
        case _Object(scheme="s3") as place:
            # pyarrow would leave an empty object in the place of the folder.
            clients.call_s3("delete_object", Bucket=place.bucket, Key=place.key)
        case place:
            with contextlib.suppress(FileNotFoundError):
                clients.arrow(place.scheme).delete_file(place.path)


def _is_wanted(endings: tuple[str, ...], key: str) -> bool:
    hidden = key.startswith(".") or "/." in key
    # Some clients leave an empty object in the place of a folder: no file, whatever the suffix.
    return bool(key) and key.lower().endswith(endings) and not key.endswith("/") and not hidden


def _list_local(root: Path, wanted: _Filter) -> Iterator[Entry]:
    if root.is_file():
        yield _local_entry(root, root.name)
        return
    if not root.exists():
        raise StorageError(f"folder {root} does not exist; correct the path or create the folder")
    for folder, names, files in os.walk(root, onerror=_raise, followlinks=True):
        names[:] = [name for name in names if not _is_hidden_or_loop(Path(folder, name))]
        # Paths as texts: there may be a million of them, and each Path takes longer than its stat.
        below = os.path.relpath(folder, root)
        for name in files:
            key = name if below == "." else f"{below}/{name}"
            if wanted(key):
                yield _local_entry(f"{folder}/{name}", key)


def _local_entry(path: str | Path, key: str) -> Entry:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        stat = os.lstat(path)  # a dangling link is listed, so that reading it accounts for it
    return Entry(key, stat.st_size, f"{stat.st_size:x}-{stat.st_mtime_ns:x}")


def _is_hidden_or_loop(folder: Path) -> bool:
    loop = folder.is_symlink() and folder.resolve() in (folder.parent.resolve() / "_").parents
    return loop or folder.name.startswith(".")


def _raise(error: OSError) -> NoReturn:
    raise error


def _table(root: str, entries: Iterator[Entry]) -> Any:
    """Return the entries as Arrow columns; values of Python's exist for a chunk at a time."""
    import pyarrow as pa  # noqa: PLC0415

    schema = pa.schema([("key", pa.string()), ("num_bytes", pa.int64()), ("etag", pa.string())])
    chunks = []
    while chunk := list(itertools.islice(entries, CHUNK_ENTRIES)):
        columns = ([getattr(entry, name) for entry in chunk] for name in schema.names)
        try:
            chunks.append(pa.record_batch(list(columns), schema=schema))
        except UnicodeEncodeError as error:
            raise StorageError(
                f"{root} holds a name that is no UTF-8: {error.object!r}; rename that file"
            ) from error
    return pa.Table.from_batches(chunks, schema=schema)


def _list_s3(root: str, place: _Object, wanted: _Filter) -> Any:
    def ask(request: dict[str, Any]) -> dict[str, Any]:
        return _attempt(root, functools.partial(clients.call_s3, "list_objects_v2", **request))

    def below(pages: Iterator[Page]) -> Iterator[Entry]:
        return (entry for page in pages for entry in page.entries if wanted(entry.key))

    bucket = Bucket(ask, place.bucket, f"{place.key}/" if place.key else "")
    try:
        found = _table(root, below(bucket.at_once()))
    except UnorderedError:
        found = _table(root, below(bucket.in_turn()))
    if not found.num_rows and place.key:
        # Of all keys that start with this one the first is this one, if it is an object.
        first = Bucket(ask, place.bucket, place.key).first().entries
        named = (Entry(place.name, e.num_bytes, e.etag) for e in first if not e.key)
        found = _table(root, named)
    return found


def _list_gs(place: _Object, wanted: _Filter) -> Iterator[Entry]:
    from pyarrow import fs  # noqa: PLC0415

    client = clients.arrow(place.scheme)
    info = client.get_file_info(place.path)
    if info.type == fs.FileType.File:
        yield _gs_entry(info, place.name)
        return
    if not _exists(f"{place.scheme}://{place.bucket}"):
        raise FileNotFoundError(errno.ENOENT, "no such bucket", place.bucket)
    selector = fs.FileSelector(place.path, recursive=True, allow_not_found=True)
    for info in client.get_file_info(selector):
        key = info.path.removeprefix(f"{place.path}/")
        if info.type == fs.FileType.File and wanted(key):
            yield _gs_entry(info, key)


def _gs_entry(info: Any, key: str) -> Entry:
    return Entry(key, info.size, f"{info.size:x}-{info.mtime_ns:x}")
