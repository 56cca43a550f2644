"""The restoration streams: keys in, restored files and receipts out.

One actor reads, decodes, restores, encodes and writes an image, and its threads overlap these parts
of neighbouring images: a whole image that went through the object store would be copied twice. A
GPU is fed by as many threads as its share of the host has cores. What reaches the driver is a
receipt. A bad image is a receipt with its reason, never a crash.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy

from pipelines import faithful, headers, huge, images, storage
from pipelines.admission import Attempts, Attendance, Company, Room
from pipelines.context import streaming
from pipelines.degradations.bicubic import imresize
from pipelines.errors import ImageError, NameRefusedError, OutageError, StorageError
from pipelines.receipts import Receipt

BLOCKS_PER_ACTOR, ITEMS_PER_BLOCK = 8, 64
MOST_BLOCKS = 1500
"""A stream of tens of thousands of tasks takes minutes to plan."""
THREADS = 3
"""Images in the hands of an actor without a GPU: one is read, one restored, one written."""
MOST_THREADS = 16
"""Of an actor with a GPU: beyond, Python's own lock would be the limit."""
FETCHED_BYTES, DECODED_BYTES = 2**28, 2**29
"""Most bytes of files, and of decoded images, that the threads of an actor hold together."""
BYTES_PER_PX = 6
"""Of a decoded image with three samples of 16 bits."""
PAUSE_S = 5.0
"""Between two times that storage is asked whether it is back, each some attempts of its own."""
MAX_ATTEMPTS = 3
"""An image that was in hand that often when an actor died is not tried again."""

Restore: TypeAlias = Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], str]]
"""Pixels (H, W, C) to restored pixels of the same type, and a word on how it was done.

It may have `restore_parts`, a `huge.Parts`, for photos that cannot be held."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Makes the actors of the stream: a value that can be pickled."""

    source: str
    """uri of the folder or bucket to read."""
    target: str
    """uri of the folder or bucket to write."""
    load: Callable[[], Restore]
    """Loads the model, inside the actor."""
    known: tuple[type[Exception], ...]
    """Errors of the model that belong in a receipt."""
    attempts: Attendance = field(default_factory=Attempts)
    """Where is noted which images are under way."""
    patience_s: float = 300.0
    """How long storage may be away before the job ends."""
    shares: str = ""
    """Folder below the target for what several actors make of one photo (pipelines/shares.py)."""

    @property
    def expected(self) -> tuple[type[Exception], ...]:
        """Return the errors that say something about one image alone."""
        return (ImageError, NameRefusedError, *self.known)


class RestoreActor:
    """Reads, restores and writes images with one loaded model; several threads may call it."""

    def __init__(self, stage: Stage) -> None:
        cv2.setNumThreads(0)
        self.stage = stage
        self.restore = stage.load()
        self.parts: huge.Parts | None = getattr(self.restore, "restore_parts", None)
        # Always the same thread: each that called torch would have a pool of threads of its own.
        self.device = ThreadPoolExecutor(1)
        self.fetched, self.decoded = Room(FETCHED_BYTES), Room(DECODED_BYTES)
        self.company = Company()

    def __call__(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the receipt of one listed image.

        Raises StorageError when the source is away for long or the target cannot be written:
        neither says anything about the image.
        """
        with self.company.together():
            begun, known = self.stage.attempts.begin(str(entry["target_key"]), alone=False)
            if known is None and not begun:
                return self._noted(entry, 1)
        if known is not None:
            return known
        with self.company.solitude():
            begun, _ = self.stage.attempts.begin(str(entry["target_key"]), alone=True)
            return self._noted(entry, begun + 1)

    def _noted(self, entry: dict[str, Any], attempt: int) -> dict[str, Any]:
        receipt = replace(blank(entry), attempt=attempt)
        if attempt > MAX_ATTEMPTS:
            receipt = exhausted(replace(receipt, attempt=MAX_ATTEMPTS))
        else:
            receipt = self.done(receipt, int(entry.get("num_bytes", 0)))
        made = asdict(receipt)
        self.stage.attempts.end(receipt.target_key, made)
        return made

    def done(self, receipt: Receipt, num_bytes: int) -> Receipt:
        """Return the receipt of an image that is read, restored and written here."""
        started = time.perf_counter()
        try:
            uri = located(self.stage, receipt.key)
            if self.parts is not None and huge.huge_size(uri):
                receipt = self._huge(receipt, uri, self.parts)
            else:
                receipt = self._held(receipt, uri, num_bytes)
        except self.stage.expected as error:
            receipt = refused(receipt, error)
        return replace(receipt, seconds=time.perf_counter() - started)

    def rows(self, _: Receipt) -> huge.Rows | None:
        """Return the rows of a huge image that this actor restores; None for all."""
        return None

    def _held(self, receipt: Receipt, uri: str, num_bytes: int) -> Receipt:
        """Restore an image that is held whole."""
        with self.fetched.holding(num_bytes):
            original = fetched(uri, self.stage.patience_s)
            with self.decoded.holding(decoded_bytes(original)):
                photo = faithful.opened(original)
                pixels, how = self.device.submit(self.restore, photo.pixels).result()
                shift = faithful.shift(photo.pixels, pixels)
                receipt = replace(
                    receipt,
                    how=", ".join(filter(None, (how, shift))),
                    height=photo.pixels.shape[0],
                    width=photo.pixels.shape[1],
                    in_bytes=len(original),
                )
                return written(self.stage, receipt, restored_photo(photo, pixels), original)

    def _huge(self, receipt: Receipt, uri: str, parts: huge.Parts) -> Receipt:
        """Restore an image that cannot be held, or the rows of it that are wanted."""
        target, rows = storage.join(self.stage.target, receipt.target_key), self.rows(receipt)
        made = self.device.submit(huge.restore_file, uri, target, parts, rows).result()
        return replace(
            receipt,
            status="restored",
            how=made.how,
            height=made.height,
            width=made.width,
            in_bytes=storage.num_bytes(uri),
            out_height=made.out_height,
            out_width=made.out_width,
            out_bytes=made.num_bytes,
            sha256=made.sha256,
        )


def blank(entry: dict[str, Any]) -> Receipt:
    """Return the receipt of an image of which nothing is known yet."""
    return Receipt(
        key=str(entry["key"]),
        target_key=str(entry["target_key"]),
        etag=str(entry["etag"]),
        status="bad",
    )


def exhausted(receipt: Receipt) -> Receipt:
    """Return the receipt of an image that is not tried again."""
    reason = (
        f"its actor died {MAX_ATTEMPTS} times while it was under way, killed or out of memory; "
        "look at the image, or give the actors more memory"
    )
    return replace(receipt, status="bad", reason=reason)


def refused(receipt: Receipt, error: Exception) -> Receipt:
    """Return the receipt of an image that an error is about."""
    return replace(receipt, status="bad", reason=str(error) or type(error).__name__)


def located(stage: Stage, key: str) -> str:
    """Return the uri of an image. Raises ImageError for a name that storage does not take."""
    try:
        return storage.join(stage.source, key)
    except StorageError as error:
        raise ImageError(str(error)) from error


def fetched(uri: str, patience_s: float) -> bytes:
    """Return the bytes of an image; what is not there or not ours to read is a bad image."""
    try:
        return patiently(lambda: storage.get(uri), patience_s)
    except OutageError:
        raise
    except StorageError as error:
        raise ImageError(str(error)) from error


def decoded_bytes(data: bytes) -> int:
    """Return about how much memory the decoded image takes, by its header."""
    header = headers.read_header(data)
    return header.height * header.width * BYTES_PER_PX


def written(stage: Stage, receipt: Receipt, photo: images.Photo, original: bytes) -> Receipt:
    """Encode a restored photo like its original and store it whole; return its receipt."""
    key = receipt.target_key
    data = faithful.closed(photo, key[key.rfind(".") :].lower(), original)
    uri = storage.join(stage.target, key)
    patiently(lambda: storage.put(uri, data), stage.patience_s)
    return replace(
        receipt,
        status="restored",
        out_height=photo.pixels.shape[0],
        out_width=photo.pixels.shape[1],
        out_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def patiently(work: Callable[[], _T], patience_s: float) -> _T:
    """Return what the work returns, tried again while storage is away, and no longer than that."""
    over = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except OutageError:
            if time.monotonic() > over:
                raise
            time.sleep(min(PAUSE_S, patience_s))


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
    threads: int = THREADS
    """Images in the hands of each."""


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


def restoration_stream(items: pa.Table, stage: Stage, pool: Pool) -> Iterator[dict[str, Any]]:
    """Yield a receipt per item {key, target_key, etag, num_bytes} as each is finished.

    They come in any order. Images go through the network one by one.
    """
    with streaming(target_max_block_size=1, max_consecutive_actor_init_deaths=MAX_ATTEMPTS):
        stream = ray.data.from_arrow(blocks(items, pool.actors)).map(
            RestoreActor,
            fn_constructor_args=(stage,),
            compute=threaded(min(pool.actors, items.num_rows), pool.threads),
            num_gpus=pool.gpus_per_actor or None,
        )
        yield from stream.iter_rows()


def threaded(actors: int, threads: int) -> ActorPoolStrategy:
    """Return a pool whose actors are called by several threads, and never wait for a task."""
    return ActorPoolStrategy(
        size=actors,
        max_tasks_in_flight_per_actor=threads + 1,
        max_concurrent_calls_per_actor=threads,
        enable_true_multi_threading=True,
    )


def blocks(items: pa.Table, actors: int) -> list[pa.Table]:
    """Cut the items into tasks: the largest files first, and ever less in a task.

    The pool then ends together instead of waiting for one long image or one long task.
    """
    ordered = items.sort_by([("num_bytes", "descending"), ("key", "ascending")])
    sizes = ordered["num_bytes"].to_numpy() + 1
    left = np.concatenate([np.cumsum(sizes[::-1])[::-1], [0]])
    return list(_cut(ordered, left, BLOCKS_PER_ACTOR * actors))


def _cut(ordered: pa.Table, left: np.ndarray[Any, Any], shares: int) -> Iterator[pa.Table]:
    first, most = 0, max(ITEMS_PER_BLOCK, ordered.num_rows // MOST_BLOCKS)
    while first < ordered.num_rows:
        share, last = left[first] / shares, first + 1
        while last < min(ordered.num_rows, first + most) and left[first] - left[last + 1] <= share:
            last += 1
        yield ordered.slice(first, last - first)
        first = last
