"""The restoration stream: keys in, restored files and receipts out.

An image is read, decoded, restored, encoded and written inside the stream; what reaches the
driver is a receipt. A bad image is a receipt with its reason, never a crash.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import cv2
import numpy as np
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import faithful, huge, images, storage
from pipelines.context import streaming
from pipelines.degradations.bicubic import imresize
from pipelines.errors import ImageError, NameRefusedError, OutageError, StorageError

BLOCKS_PER_ACTOR, ITEMS_PER_BLOCK = 8, 64

Restore: TypeAlias = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Pixels (H, W, C) to restored pixels of the same type."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of one image."""

    key: str
    """Below the source."""
    target_key: str
    """Below the target."""
    status: str
    """"restored" or "bad"."""
    reason: str = ""
    """Why it is bad."""
    height: int = 0
    """Pixels, after the orientation was applied."""
    width: int = 0
    """Pixels."""
    sha256: str = ""
    """Of the bytes that were written."""
    etag: str = ""
    """Of the bytes that were read, as listed."""
    seconds: float = 0.0
    """From the first byte asked for to the last byte written."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Makes the actor of the stream: a value that can be pickled."""

    source: str
    """uri of the folder or bucket to read."""
    target: str
    """uri of the folder or bucket to write."""
    load: Callable[[], Restore]
    """Loads the model, inside the actor."""
    known: tuple[type[Exception], ...]
    """Errors of the model that belong in a receipt."""


class RestoreActor:
    """Reads, restores and writes one image after the other with one loaded model."""

    def __init__(self, stage: Stage) -> None:
        cv2.setNumThreads(0)
        self.stage = stage
        self.restore = stage.load()
        self.parts: huge.Parts | None = getattr(self.restore, "restore_parts", None)
        self.expected: tuple[type[Exception], ...] = (ImageError, NameRefusedError, *stage.known)

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt of one listed image.

        Raises StorageError when the source is away or the target cannot be written: neither says
        anything about the image.
        """
        started = time.perf_counter()
        key, target_key = str(entry["key"]), str(entry["target_key"])
        receipt = Receipt(key=key, target_key=target_key, etag=str(entry["etag"]), status="bad")
        try:
            uri = self._uri(key)
            if self.parts is not None and huge.is_huge(uri):
                target = storage.join(self.stage.target, target_key)
                written = huge.restore_file(uri, target, self.parts)
                receipt = replace(
                    receipt,
                    status="restored",
                    height=written.height,
                    width=written.width,
                    sha256=written.sha256,
                    seconds=time.perf_counter() - started,
                )
                return asdict(receipt)
            original = self._read(key)
            photo = faithful.opened(original)
            restored = restored_photo(photo, self.restore(photo.pixels))
            data = faithful.closed(restored, target_key[target_key.rfind(".") :].lower(), original)
            storage.put(storage.join(self.stage.target, target_key), data)
        except self.expected as error:
            receipt = replace(receipt, reason=str(error) or type(error).__name__)
        else:
            height, width = photo.pixels.shape[:2]
            sha256 = hashlib.sha256(data).hexdigest()
            receipt = replace(receipt, status="restored", height=height, width=width, sha256=sha256)
        return asdict(replace(receipt, seconds=time.perf_counter() - started))

    def _uri(self, key: str) -> str:
        try:
            return storage.join(self.stage.source, key)
        except StorageError as error:
            raise ImageError(str(error)) from error

    def _read(self, key: str) -> bytes:
        """Return the bytes; what is not there or not ours to read is a bad image."""
        try:
            return storage.get(storage.join(self.stage.source, key))
        except OutageError:
            raise
        except StorageError as error:
            raise ImageError(str(error)) from error


def restored_photo(photo: images.Photo, pixels: images.Samples) -> images.Photo:
    """Return a photo with its restored pixels; alpha grows with them."""
    alpha = photo.alpha
    if alpha is not None and alpha.shape != pixels.shape[:2]:
        alpha = imresize(alpha[:, :, None], *pixels.shape[:2])[:, :, 0]
    return replace(photo, pixels=pixels, alpha=alpha)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The actors of a stream."""

    actors: int
    """How many."""
    gpus_per_actor: float = 0.0
    """Share of a GPU that each holds."""


def actor_stream(
    items: list[dict[str, Any]], actor: type, arguments: tuple[Any, ...], pool: Pool
) -> Iterator[dict[str, Any]]:
    """Yield what `actor(*arguments)` makes of each item, as each is finished, in any order."""
    # Few items a block, so that the pool shares them evenly; not one where there are many.
    most = max(BLOCKS_PER_ACTOR * pool.actors, len(items) // ITEMS_PER_BLOCK)
    # With output blocks of a byte a row leaves its actor as soon as it is made.
    with streaming(target_max_block_size=1):
        stream = ray.data.from_items(items, override_num_blocks=min(len(items), most)).map(
            actor,
            fn_constructor_args=arguments,
            compute=ActorPoolStrategy(size=min(pool.actors, len(items))),
            num_gpus=pool.gpus_per_actor or None,
        )
        yield from stream.iter_rows()


def restoration_stream(
    items: list[dict[str, Any]], stage: Stage, pool: Pool
) -> Iterator[dict[str, Any]]:
    """Yield a receipt per item {key, target_key, etag} as images are finished, in any order."""
    yield from actor_stream(items, RestoreActor, (stage,), pool)
