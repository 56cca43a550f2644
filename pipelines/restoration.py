"""The restoration stream: keys in, restored files and receipts out.

An image is read, decoded, restored, encoded and written inside the stream; what reaches the
driver is a receipt. A bad image is a receipt with its reason, never a crash.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import images, storage
from pipelines.context import streaming
from pipelines.errors import DataError
from pipelines.images import Photo

BLOCKS_PER_ACTOR, IMAGES_PER_BLOCK = 8, 16

Restore: TypeAlias = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Pixels (H, W, C) to restored pixels of the same type."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What became of one image."""

    key: str
    """Below the source, and below the target."""
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
        self.expected: tuple[type[Exception], ...] = (DataError, *stage.known)

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt of one listed image."""
        started = time.perf_counter()
        key, etag = str(entry["key"]), str(entry["etag"])
        try:
            receipt = self._restore(key, str(entry["target_key"]), etag)
        except self.expected as error:
            receipt = Receipt(key=key, status="bad", reason=str(error), etag=etag)
        return asdict(receipt) | {"seconds": time.perf_counter() - started}

    def _restore(self, key: str, target_key: str, etag: str) -> Receipt:
        photo = images.decode(storage.get(storage.join(self.stage.source, key)))
        restored = Photo(pixels=self.restore(photo.pixels), alpha=photo.alpha)
        data = images.encode(restored, target_key[target_key.rfind(".") :].lower())
        storage.put(storage.join(self.stage.target, target_key), data)
        height, width = photo.pixels.shape[:2]
        return Receipt(
            key=key,
            status="restored",
            height=height,
            width=width,
            sha256=hashlib.sha256(data).hexdigest(),
            etag=etag,
        )


def restoration_stream(
    items: list[dict[str, Any]], stage: Stage, *, actors: int, gpus_per_actor: float
) -> Iterator[dict[str, Any]]:
    """Yield a receipt per item {key, target_key, etag} as images are finished, in any order."""
    # With blocks of a byte a receipt leaves its actor as soon as its image is written.
    with streaming(target_max_block_size=1):
        # One image a block: a pool of actors takes the next as soon as it is free.
        # Few images a block, so that a pool shares them evenly; not one where there are many.
        num_blocks = min(len(items), max(BLOCKS_PER_ACTOR * actors, len(items) // IMAGES_PER_BLOCK))
        stream = ray.data.from_items(items, override_num_blocks=num_blocks).map(
            RestoreActor,
            fn_constructor_args=(stage,),
            compute=ActorPoolStrategy(size=min(actors, len(items))),
            num_gpus=gpus_per_actor or None,
        )
        yield from stream.iter_rows()
