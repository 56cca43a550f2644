"""A source: the images of one manifest, their bytes, and where their lq comes from."""

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import pyarrow as pa

from pipelines import images, manifest, shards, storage
from pipelines.config import Profile
from pipelines.errors import ImageError, ManifestError, StorageError
from pipelines.manifest import Manifest
from pipelines.pairs import Captured, Pairs
from pipelines.scenes import Decoded, Picture, Scene
from pipelines.tasks import Task

_READING = Lock()


@dataclass(frozen=True, kw_only=True)
class Source:
    """The images of one manifest, as far as samples are cut from them."""

    manifest_uri: str
    """Where the manifest is; tasks read it, so that no key list travels with them."""
    digest: str
    """sha256 of the manifest the plan was made for."""
    pairs: Pairs
    """Where lq comes from."""
    profile: Profile
    """What becomes of embedded colour profiles."""

    @classmethod
    def of(cls, uri: str, catalogue: Manifest, task: Task) -> "Source":
        """Return the source of a manifest. Raises ManifestError for pairs of another task."""
        return cls(
            manifest_uri=uri,
            digest=catalogue.digest(),
            pairs=pairs_of(uri, catalogue, task),
            profile=catalogue.profile,
        )


def pairs_of(uri: str, catalogue: Manifest, task: Task) -> Pairs:
    """Return where the lq of a manifest comes from: captured, if it has lq, else the task's."""
    if not catalogue.captured:
        return task.pairs
    found = Captured(views=len(catalogue.lq_roots), scale=catalogue.scale)
    if (found.views, found.scale) != (task.views, task.pairs.scale):
        raise ManifestError(
            f"{uri} has {found.views} lq images at 1/{found.scale} of the size for each gt, but "
            f"the task takes {task.views} at 1/{task.pairs.scale}; prepare the pairs of this task"
        )
    return found


@dataclass(frozen=True)
class Files:
    """The bytes of image files."""

    files: tuple[bytes, ...]
    """Of gt, then of the captured views."""
    profile: Profile = "keep"
    """What becomes of embedded colour profiles."""

    def pictures(self) -> list[Picture]:
        """Decode all of them."""
        return [Decoded(images.decode(file, self.profile).pixels) for file in self.files]


@dataclass(frozen=True)
class Packed:
    """The bytes of the same images in a shard."""

    keys: tuple[str, ...]
    """Of gt, then of the captured views."""
    messages: bytes
    """One after the other."""

    def pictures(self) -> list[Picture]:
        """Return images whose tiles are decoded when they are cut."""
        return list(shards.unpack_all(self.keys, self.messages))


@dataclass(frozen=True)
class Fetched:
    """What is read for one visit."""

    pairs: Pairs
    """Where lq comes from."""
    content: Files | Packed
    """The bytes."""

    def scene(self, least_px: int) -> Scene:
        """Decode. Raises ImageError for what is not what `laformer prepare` saw."""
        gt, *views = self.content.pictures()
        if min(gt.shape[:2]) < least_px:
            raise ImageError(f"{gt.shape[1]} x {gt.shape[0]} pixels; a side has {least_px} or more")
        for view in views:
            if tuple(side * self.pairs.scale for side in view.shape[:2]) != gt.shape[:2]:
                raise ImageError(f"lq is {view.shape[:2]} and gt {gt.shape[:2]}: not one scene")
        return Scene(gt, tuple(views))


COLUMNS = ["key", "num_bytes", "lq_keys", "lq_num_bytes", "shard", "offset", "shard_bytes"]
"""Of a manifest's row, what reading its images needs."""


@dataclass(frozen=True)
class Entries:
    """The usable training images of a source, held as columns: a row takes its bytes, no more."""

    source: Source
    roots: tuple[str, ...]
    """Of gt, then of the captured views."""
    table: pa.Table
    """`COLUMNS`."""

    def fetch(self, image: int, *, packed: bool = True) -> Fetched:
        """Read an image, from its shard where it has one, unless not `packed`.

        Raises StorageError for what is not what `laformer prepare` saw.
        """
        row = self.table.slice(image, 1).to_pylist()[0]
        keys = (row["key"], *row["lq_keys"])
        if packed and row["shard"]:
            # The files have the same pixels, and if storage is away they will say so.
            with suppress(StorageError):
                span = storage.get_range(row["shard"], row["offset"], row["shard_bytes"])
                return Fetched(self.source.pairs, Packed(keys, span))
        sizes = (row["num_bytes"], *row["lq_num_bytes"])
        files = tuple(map(read, self.roots, keys, sizes))
        return Fetched(self.source.pairs, Files(files, self.source.profile))


def read(root: str, key: str, num_bytes: int) -> bytes:
    """Return the bytes of an image. Raises StorageError when they are not as many as listed."""
    data = storage.get(storage.join(root, key))
    if len(data) != num_bytes:
        raise StorageError(
            f"{key} has {len(data)} bytes instead of {num_bytes}: it changed after "
            "laformer prepare; prepare again and start a new run"
        )
    return data


def entries(source: Source, min_px: int) -> Entries:
    """Return the images of a source, read once per process, whichever thread comes first."""
    with _READING:
        return _entries(source, min_px)


@lru_cache(maxsize=8)
def _entries(source: Source, min_px: int) -> Entries:
    catalogue = manifest.read(source.manifest_uri)
    if catalogue.digest() != source.digest:
        raise ManifestError(
            f"{source.manifest_uri} changed while a run was using it; "
            "give new photos a manifest of their own and start a new run"
        )
    table = catalogue.usable("train", min_px=min_px).select(COLUMNS).combine_chunks()
    return Entries(source, (catalogue.root, *catalogue.lq_roots), table)
