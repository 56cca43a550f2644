"""The restoration of a GPU: read and decode, restore, encode and write, each by actors of its own.

A GPU is as fast as many cores that decode, which may be on other hosts. Ray Data holds back whoever
is ahead. A decoded image is copied into the object store and out again twice; one that is too large
for that is read and written by the actor that restores it.
"""

import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import cv2
import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import images
from pipelines.context import streaming
from pipelines.receipts import Receipt
from pipelines.restoration import (
    MAX_ATTEMPTS,
    Pool,
    RestoreActor,
    Stage,
    blank,
    blocks,
    decoded_bytes,
    exhausted,
    fetched,
    refused,
    written,
)

MOST_BYTES = 2**29
"""Of a decoded image that is handed on; Arrow's columns end at four times that."""


def relay_stream(items: pa.Table, stage: Stage, pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield a receipt per item {key, target_key, etag, num_bytes} as each is finished."""
    helpers = ActorPoolStrategy(min_size=1, max_size=pool.helpers)
    one = ActorPoolStrategy(size=min(pool.actors, items.num_rows))
    with streaming(target_max_block_size=1, max_consecutive_actor_init_deaths=MAX_ATTEMPTS):
        stream = (
            ray.data.from_arrow(blocks(items, pool.actors + pool.helpers))
            .map(Read, fn_constructor_args=(stage,), compute=helpers)
            .map(
                Apply,
                fn_constructor_args=(stage,),
                compute=one,
                num_gpus=pool.gpus_per_actor or None,
            )
            .map(Write, fn_constructor_args=(stage,), compute=helpers)
        )
        yield from stream.iter_rows()


class Step:
    """One part of the work; an image that is refused by one goes through the others untouched."""

    def __init__(self, stage: Stage) -> None:
        cv2.setNumThreads(0)
        self.stage = stage

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row after this part: the receipt so far, and the image if there is one."""
        receipt = Receipt(**row["receipt"]) if "receipt" in row else blank(row)
        if receipt.reason or receipt.status == "restored":
            return {"receipt": asdict(receipt), "photo": b""}
        name = f"{type(self).__name__} {receipt.target_key}"
        begun, known = self.stage.attempts.begin(name, alone=True)
        if known is not None and not known["photo"]:
            return known
        started = time.perf_counter()
        data = b""
        try:
            if begun >= MAX_ATTEMPTS:
                receipt = exhausted(receipt)
            else:
                receipt = replace(receipt, attempt=max(receipt.attempt, begun + 1))
                receipt, data = self.work(receipt, bytes(row.get("photo", b"")))
        except self.stage.expected as error:
            receipt = refused(receipt, error)
        receipt = replace(receipt, seconds=receipt.seconds + time.perf_counter() - started)
        self.stage.attempts.end(name, {"receipt": asdict(receipt), "photo": data[:1]})
        return {"receipt": asdict(receipt), "photo": data}

    def work(self, receipt: Receipt, data: bytes) -> tuple[Receipt, bytes]:
        """Return the receipt and the image after this part."""
        raise NotImplementedError


class Read(Step):
    """Reads and decodes."""

    def work(self, receipt: Receipt, data: bytes) -> tuple[Receipt, bytes]:
        """Return the decoded image, or nothing where it is too large to be handed on."""
        data = fetched(self.stage, receipt.key)
        receipt = replace(receipt, in_bytes=len(data))
        if decoded_bytes(data) > MOST_BYTES:
            return receipt, b""
        return receipt, pickle.dumps(images.decode(data))


class Apply(Step):
    """Restores, with one loaded model."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.actor = RestoreActor(stage)

    def work(self, receipt: Receipt, data: bytes) -> tuple[Receipt, bytes]:
        """Return the image and what is restored of it; a large one is written at once."""
        if not data:
            return self.actor.done(receipt, 0), b""
        photo = pickle.loads(data)  # noqa: S301 - the step before made it
        pixels, how = self.actor.restore(photo.pixels)
        return replace(receipt, how=how), pickle.dumps((photo, pixels))


class Write(Step):
    """Encodes and writes."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt alone."""
        receipt: dict[str, Any] = super().__call__(row)["receipt"]
        return receipt

    def work(self, receipt: Receipt, data: bytes) -> tuple[Receipt, bytes]:
        """Store the image whole."""
        photo, pixels = pickle.loads(data)  # noqa: S301 - the step before made it
        return written(self.stage, receipt, photo, pixels), b""
