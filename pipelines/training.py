"""The training stream: manifest rows in, blocks of degraded crops out.

A task reads, decodes, crops and degrades in one step. What goes in is a `Span` of the plan; what
comes out is a block of crops in their stored bit depth: `sample_id` int64 (n,), `lq` and `gt`
(n, patch, patch, 3), `replaced` int8 (n,). Whole images never cross the object store.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from pipelines import manifest
from pipelines.context import streaming
from pipelines.errors import DataError, ImageError, ManifestError, OutageError, StorageError
from pipelines.manifest import Manifest
from pipelines.pairs import Captured, Pairs
from pipelines.pixels import Degraded, Pixels
from pipelines.plan import Plan, Span, spans
from pipelines.scenes import Crop, Form
from pipelines.sources import Fetched, Source, entries
from pipelines.tasks import Task

BLOCK_BYTES = 64 * 2**20
"""About the largest block: a task of about two seconds, beside which Ray's own work is small."""
STORE_SHARE = 8
"""Blocks that a core's share of the object store has room for, where that is the smaller limit."""
READ_AHEAD = 4
"""Images fetched while one is decoded."""
REPLACEMENTS = 8
"""Images tried in place of one that can no longer be read."""

T = TypeVar("T")
R = TypeVar("R")
Block = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class TrainingStream:
    """A value that every worker can turn into the same samples."""

    sources: tuple[Source, ...]
    """What is mixed; the plan has their sizes and weights."""
    form: Form
    """Of gt: 16 bits as soon as one image has 16, so that no block mixes types."""
    lq_dtype: str
    """Of lq."""
    views: int
    """Images of lq for each gt."""
    patch_px: int
    """Side of a crop of gt in pixels."""
    plan: Plan
    """Which sample is what."""

    @classmethod
    def create(
        cls, uris: tuple[str, ...], *, task: Task, patch_px: int, plan_options: dict[str, Any]
    ) -> "TrainingStream":
        """Plan over the training images of some manifests.

        Raises ManifestError when one has none that is usable, or pairs of another task.
        """
        return cls.over(opened(uris, task), task=task, patch_px=patch_px, plan_options=plan_options)

    @classmethod
    def over(
        cls, catalogues: "Opened", *, task: Task, patch_px: int, plan_options: dict[str, Any]
    ) -> "TrainingStream":
        """Plan over manifests that are open: a run whose patches grow reads them once."""
        if patch_px % task.pairs.scale:
            raise DataError(
                f"patch {patch_px} is not a multiple of the scale {task.pairs.scale}; "
                f"use {max(1, patch_px // task.pairs.scale) * task.pairs.scale}"
            )
        tables = [
            _training_table(source.manifest_uri, catalogue, patch_px)
            for source, catalogue in catalogues
        ]
        if " at 0x" in repr(task.pairs):
            raise DataError(
                f"{task.pairs} has another name in every process, so that no run could resume; "
                "make the degradation a frozen dataclass"
            )
        bits = max(pc.max(table["bits"]).as_py() for table in tables)
        form = Form(bits=bits, channels=task.channels)
        sources = tuple(source for source, _ in catalogues)
        return cls(
            sources=sources,
            form=form,
            lq_dtype=str(np.result_type(*(_lq_dtype(each.pairs, form) for each in sources))),
            views=task.views,
            patch_px=patch_px,
            plan=Plan(source_images=tuple(table.num_rows for table in tables), **plan_options),
        )

    @property
    def digest(self) -> str:
        """Digests of the manifests."""
        return "+".join(source.digest for source in self.sources)

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample, gt and lq."""
        gt = self.patch_px**2 * self.form.channels
        lq = gt * self.views // self.sources[0].pairs.scale ** 2
        return gt * self.form.bits // 8 + lq * np.dtype(self.lq_dtype).itemsize

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for a resumed run to see the same samples."""
        facts = {
            "manifest": self.digest,
            "pairs": "+".join(repr(source.pairs) for source in self.sources),
        }
        # Other builds of these round the last bit of a blur in another way.
        facts |= {"numpy": np.__version__, "opencv": cv2.__version__}
        return facts | {"patch_px": self.patch_px} | asdict(self.form) | asdict(self.plan)

    @property
    def window_bytes(self) -> int:
        """Bytes of the crops of one window: training holds one, and the next is being made."""
        return self.row_bytes * self.plan.window_steps * self.plan.global_batch

    def cut(
        self, first_step: int, last_step: int, num_workers: int, most_bytes: int = BLOCK_BYTES
    ) -> Iterator[Span]:
        """Cut steps [first_step, last_step) into spans of one window and a few lanes.

        They come in order, so that dealing them out round robin gives worker w exactly the lanes
        of worker w.
        """
        lane_bytes = self.row_bytes * self.plan.window_steps
        return spans(
            self.plan,
            first_step=first_step,
            last_step=last_step,
            num_workers=num_workers,
            lanes_per_span=max(1, most_bytes // lane_bytes),
        )

    def segment(self, first_step: int, last_step: int, num_workers: int) -> ray.data.Dataset:
        """Return the spans of `cut` as blocks, for `streaming_split(num_workers, equal=True)`.

        Ray has to be running.
        """
        cut = self.cut(first_step, last_step, num_workers, block_bytes())
        rows = [asdict(span) for span in cut]
        # Without a size limit one span stays one block.
        with streaming(preserve_order=True, target_max_block_size=None):
            blocks = ray.data.from_items(rows, override_num_blocks=len(rows))
            return blocks.map_batches(CropReader(self), batch_size=None)


def block_bytes() -> int:
    """Return about how large a block may be in this cluster; it changes no sample."""
    resources = ray.cluster_resources()
    share = resources.get("object_store_memory", 0) / max(1, resources.get("CPU", 1))
    return min(BLOCK_BYTES, int(share) // STORE_SHARE)


Opened: TypeAlias = tuple[tuple[Source, Manifest], ...]
"""Manifests that were read, each with what its samples are cut from."""


def opened(uris: tuple[str, ...], task: Task) -> Opened:
    """Read manifests. Raises ManifestError for pairs of another task."""
    catalogues = [manifest.read(uri) for uri in uris]
    return tuple(
        (Source.of(uri, catalogue, task), catalogue)
        for uri, catalogue in zip(uris, catalogues, strict=True)
    )


def _training_table(uri: str, catalogue: Manifest, patch_px: int) -> pa.Table:
    table = catalogue.usable("train", min_px=patch_px)
    if not table.num_rows:
        raise ManifestError(
            f"{uri} has no training photo of at least {patch_px} x {patch_px} pixels; "
            "use a smaller patch or larger photos"
        )
    return table


def _lq_dtype(pairs: Pairs, form: Form) -> Any:
    """Return the type of lq, by making one of a black image."""
    stored = np.uint16 if form.bits == 16 else np.uint8
    if isinstance(pairs, Captured):
        return stored
    black = np.zeros((pairs.scale, pairs.scale, form.channels), stored)
    return pairs.degrade(black, np.random.default_rng(0)).dtype


@dataclass(frozen=True)
class CropReader:
    """Turn one span into one block of samples."""

    stream: TrainingStream

    def __call__(self, span: Block) -> Block:
        """Return the samples of the span, step by step; a pure function of plan and manifest."""
        return self.read(Span(**{name: int(column[0]) for name, column in span.items()}))

    def read(self, span: Span) -> Block:
        """Decode each visited image once and cut all its crops."""
        cv2.setNumThreads(0)  # the stream runs one task per core
        stream, plan = self.stream, self.stream.plan
        sample_ids = span.sample_ids(plan.global_batch)
        visits: dict[int, list[int]] = {}
        for row, sample_id in enumerate(sample_ids):
            visits.setdefault(plan.visit(sample_id), []).append(row)
        rows = Rows(sample_ids, stream.lq_dtype)
        fetched = read_ahead(self._fetch, list(visits))
        for (visit, own), data in zip(visits.items(), fetched, strict=True):
            self._visit(visit, data, rows, own)
        return rows.block()

    def _fetch(self, visit: int) -> Fetched | StorageError:
        """Return the bytes of the visited image, or why they cannot be had."""
        try:
            return self._bytes(visit)
        except OutageError:
            raise  # the image is there: standing in for it would change the samples
        except StorageError as error:
            return error

    def _bytes(self, visit: int, skip: int = 0, *, packed: bool = True) -> Fetched:
        source, image = self.stream.plan.image(visit, skip)
        found = entries(self.stream.sources[source], self.stream.patch_px)
        return found.fetch(image, packed=packed)

    def _visit(
        self, visit: int, data: Fetched | StorageError, rows: "Rows", own: list[int]
    ) -> None:
        """Fill the rows of a visit, if need be from other images: a run never loses a row."""
        for attempt, again in enumerate(self._attempts(visit)):
            try:
                if attempt:
                    data = again()
                if isinstance(data, StorageError):
                    raise data
                self._fill(rows, own, data)
            except OutageError:
                raise
            except (ImageError, StorageError) as error:
                last = error
            else:
                rows.replaced[own] = max(0, attempt - 1)
                return
        raise DataError(
            f"{REPLACEMENTS} photos in a row cannot be read, the last one because: {last}; "
            "run laformer prepare again to find them"
        )

    def _attempts(self, visit: int) -> Iterator[Callable[[], Fetched]]:
        """Yield the ways to the pixels of a visit: its shard, its file, images in its place."""
        yield partial(self._bytes, visit)
        for skip in range(REPLACEMENTS):
            yield partial(self._bytes, visit, skip, packed=False)

    def _fill(self, rows: "Rows", own: list[int], data: Fetched) -> None:
        """Cut, turn and degrade; every choice comes from the sample's own generator."""
        stream, scene = self.stream, data.scene(self.stream.patch_px)
        for row in own:
            rng = stream.plan.rng(rows.sample_ids[row])
            crop = Crop.draw(scene.gt.shape, stream.patch_px, data.pairs, rng)
            rows.put(row, *scene.cut(crop, data.pairs, stream.form, rng))


class Rows:
    """The columns of a block, filled in any order; memory is taken once, at the first sample."""

    def __init__(self, sample_ids: list[int], lq_dtype: str) -> None:
        self.sample_ids, self.lq_dtype = sample_ids, lq_dtype
        self.replaced = np.zeros(len(sample_ids), np.int8)
        self.gt: Any = None
        self.lq: Any = None

    def put(self, row: int, gt: Pixels, lq: Degraded) -> None:
        """Keep a sample."""
        if self.gt is None:
            self.gt = np.empty((len(self.sample_ids), *gt.shape), gt.dtype)
            self.lq = np.empty((len(self.sample_ids), *lq.shape), self.lq_dtype)
        self.gt[row], self.lq[row] = gt, in_units_of(self.lq.dtype, lq)

    def block(self) -> Block:
        """Return the columns."""
        sample_ids = np.asarray(self.sample_ids, np.int64)
        return {
            "sample_id": sample_ids,
            "lq": self.lq,
            "gt": self.gt,
            "replaced": self.replaced,
        }


def in_units_of(dtype: Any, lq: Degraded) -> Degraded:
    """Return lq in a type that holds it: a mixture has one type, the widest of its sources."""
    if np.issubdtype(lq.dtype, np.floating) and np.issubdtype(dtype, np.integer):
        raise DataError(
            f"the degradation gave {lq.dtype} after {dtype}; let each of its choices give the "
            "same, for example GaussianNoise(..., clip=True)"
        )
    if lq.dtype == dtype or np.issubdtype(lq.dtype, np.floating):
        return lq
    if np.issubdtype(dtype, np.floating):
        return lq * np.float32(1 / np.iinfo(lq.dtype).max)
    return lq.astype(np.uint16) * np.uint16(257)


def read_ahead(fetch: Callable[[T], R], items: list[T]) -> Iterator[R]:
    """Yield fetch(item) in order, with a few fetches under way."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        pending = [pool.submit(fetch, item) for item in items[:READ_AHEAD]]
        for index in range(len(items)):
            result = pending.pop(0).result()
            if index + READ_AHEAD < len(items):
                pending.append(pool.submit(fetch, items[index + READ_AHEAD]))
            yield result
