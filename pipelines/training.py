"""The training stream: manifest rows in, blocks of degraded crops out.

A task reads, decodes, crops and degrades in one step. What goes in is a `Span` of the plan; what
comes out is a block of crops in their stored bit depth: `sample_id` int64 (n,), `lq` and `gt`
(n, patch, patch, 3), `replaced` int8 (n,). Whole images never cross the object store.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
import ray.data

from pipelines import images, manifest, storage
from pipelines.config import DataConfig
from pipelines.context import streaming
from pipelines.errors import DataError, ImageError, ManifestError, OutageError, StorageError
from pipelines.pairs import Synthesised
from pipelines.pixels import Degraded, Pixels
from pipelines.plan import Plan, Span, spans

READ_AHEAD = 4
"""Images fetched while one is decoded."""
REPLACEMENTS = 8
"""Images tried in place of one that can no longer be read."""
VALIDATION_SEED = 0

T = TypeVar("T")
R = TypeVar("R")
Block = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class TrainingStream:
    """A value that every worker can turn into the same samples."""

    manifest_uri: str
    """Where the manifest is; tasks read it, so that no key list travels with them."""
    manifest_digest: str
    """sha256 of the manifest the plan was made for."""
    bits: int
    """Bits per sample of gt: 16 as soon as one image has 16, so that no block mixes types."""
    pairs: Synthesised
    """How lq is made."""
    patch_px: int
    """Side of a crop in pixels."""
    plan: Plan
    """Which sample is what."""

    @classmethod
    def create(
        cls, manifest_uri: str, *, pairs: Synthesised, patch_px: int, plan_options: dict[str, int]
    ) -> "TrainingStream":
        """Plan over the training images of a manifest. Raises ManifestError when none is usable."""
        catalogue = manifest.read(manifest_uri)
        rows = catalogue.usable("train", min_px=patch_px)
        if not rows.num_rows:
            raise ManifestError(
                f"{manifest_uri} has no training photo of at least {patch_px} x {patch_px} pixels; "
                "use a smaller patch or larger photos"
            )
        return cls(
            manifest_uri=manifest_uri,
            manifest_digest=catalogue.digest(),
            bits=max(rows["bits"].to_pylist()),
            pairs=pairs,
            patch_px=patch_px,
            plan=Plan(num_images=rows.num_rows, **plan_options),
        )

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for a resumed run to see the same samples."""
        facts = {"manifest": self.manifest_digest, "pairs": repr(self.pairs)}
        return facts | {"patch_px": self.patch_px, "bits": self.bits} | asdict(self.plan)

    def segment(self, first_step: int, last_step: int, num_workers: int) -> ray.data.Dataset:
        """Return the blocks of steps [first_step, last_step): per window one for each worker.

        Blocks come in order, so that `streaming_split(num_workers, equal=True)` deals them out
        round robin: worker w receives exactly the lanes of worker w.
        """
        rows = [
            asdict(span)
            for span in spans(
                self.plan, first_step=first_step, last_step=last_step, num_workers=num_workers
            )
        ]
        # Without a size limit one span stays one block.
        with streaming(preserve_order=True, target_max_block_size=None):
            blocks = ray.data.from_items(rows, override_num_blocks=len(rows))
            return blocks.map_batches(CropReader(self), batch_size=None)


@dataclass(frozen=True)
class CropReader:
    """Turn one span into one block of samples."""

    stream: TrainingStream

    def __call__(self, span: Block) -> Block:
        """Return the samples of the span, step by step; a pure function of plan and manifest."""
        return self.read(Span(**{name: int(column[0]) for name, column in span.items()}))

    def read(self, span: Span) -> Block:
        """Decode each visited image once and cut all its crops."""
        stream, plan = self.stream, self.stream.plan
        sample_ids = span.sample_ids(plan.global_batch)
        shape = (len(sample_ids), stream.patch_px, stream.patch_px, 3)
        gt = np.empty(shape, dtype=np.uint16 if stream.bits == 16 else np.uint8)
        lq: np.ndarray[Any, Any] | None = None
        replaced = np.zeros(len(sample_ids), dtype=np.int8)
        visits: dict[int, list[int]] = {}
        for row, sample_id in enumerate(sample_ids):
            visits.setdefault(plan.locate(sample_id).visit, []).append(row)
        for (visit, rows), data in zip(
            visits.items(), read_ahead(self._fetch, list(visits)), strict=True
        ):
            image, num_replaced = self._decode(visit, data)
            for row in rows:
                clean, degraded = self._sample(image, sample_ids[row])
                lq = np.empty(shape, dtype=degraded.dtype) if lq is None else lq
                gt[row], lq[row], replaced[row] = clean, degraded, num_replaced
        assert lq is not None, "a span has at least one sample"
        return {
            "sample_id": np.asarray(sample_ids, dtype=np.int64),
            "lq": lq,
            "gt": gt,
            "replaced": replaced,
        }

    def _sample(self, image: Pixels, sample_id: int) -> tuple[Pixels, Degraded]:
        """Cut, flip and degrade; every choice comes from the sample's own generator."""
        rng, patch = self.stream.plan.rng(sample_id), self.stream.patch_px
        top = rng.integers(image.shape[0] - patch + 1)
        left = rng.integers(image.shape[1] - patch + 1)
        crop = np.rot90(image[top : top + patch, left : left + patch], int(rng.integers(4)))
        if rng.integers(2):
            crop = crop[:, ::-1]
        gt = np.ascontiguousarray(crop)
        return gt, self.stream.pairs.degrade(gt, rng)

    def _fetch(self, visit: int) -> bytes | StorageError:
        """Return the bytes of the visited image, or why another image will stand in."""
        try:
            return self._bytes(self.stream.plan.image(visit))
        except OutageError:
            raise  # the image is there: standing in for it would change the samples
        except StorageError as error:
            return error

    def _bytes(self, image: int) -> bytes:
        root, rows = training_rows(
            self.stream.manifest_uri, self.stream.manifest_digest, self.stream.patch_px
        )
        key, num_bytes = rows[image]
        data = storage.get(storage.join(root, key))
        if len(data) != num_bytes:
            raise StorageError(
                f"{key} has {len(data)} bytes instead of {num_bytes}: it changed after "
                "laformer prepare; prepare again and start a new run"
            )
        return data

    def _decode(self, visit: int, data: bytes | StorageError) -> tuple[Pixels, int]:
        """Return the image and how many had to be skipped: a run never loses a row."""
        cv2.setNumThreads(0)  # the stream runs one task per core
        first = self.stream.plan.image(visit)
        for attempt in range(REPLACEMENTS):
            try:
                if attempt:
                    data = self._bytes((first + attempt) % self.stream.plan.num_images)
                if isinstance(data, StorageError):
                    raise data
                return self._usable(images.decode(data).rgb), attempt
            except OutageError:
                raise
            except (ImageError, StorageError) as error:
                last = error
        raise DataError(
            f"{REPLACEMENTS} photos in a row cannot be read, the last one because: {last}; "
            "run laformer prepare again to find them"
        )

    def _usable(self, image: Pixels) -> Pixels:
        """Refuse an image that shrank; bring 8 bits into a 16-bit stream: 255 becomes 65535."""
        if min(image.shape[:2]) < self.stream.patch_px:
            raise ImageError("smaller than it was when laformer prepare saw it")
        if image.dtype == np.uint8 and self.stream.bits == 16:
            return image.astype(np.uint16) * np.uint16(257)
        return image


@lru_cache(maxsize=4)
def training_rows(
    manifest_uri: str, digest: str, min_px: int
) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return root, keys and byte counts of the plan's images, once per process."""
    catalogue = manifest.read(manifest_uri)
    if catalogue.digest() != digest:
        raise ManifestError(
            f"{manifest_uri} changed while a run was using it; "
            "give new photos a manifest of their own and start a new run"
        )
    rows = catalogue.usable("train", min_px=min_px)
    return catalogue.root, tuple(
        zip(rows["key"].to_pylist(), rows["num_bytes"].to_pylist(), strict=True)
    )


def read_ahead(fetch: Callable[[T], R], items: list[T]) -> Iterator[R]:
    """Yield fetch(item) in order, with a few fetches under way."""
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        pending = [pool.submit(fetch, item) for item in items[:READ_AHEAD]]
        for index in range(len(items)):
            result = pending.pop(0).result()
            if index + READ_AHEAD < len(items):
                pending.append(pool.submit(fetch, items[index + READ_AHEAD]))
            yield result


def validation_stream(
    manifest_uri: str, *, pairs: Synthesised, config: DataConfig
) -> ray.data.Dataset:
    """Return rows {key, lq, gt}: centre crops of held-out images, degraded the same every time."""
    catalogue = manifest.read(manifest_uri)
    keys = catalogue.usable("held_out")["key"].to_pylist()[: config.validation_images]
    if not keys:
        raise ManifestError(
            f"{manifest_uri} holds no photo out of training; "
            "run laformer prepare with --holdout 0.2 on at least two photos"
        )
    items = [{"key": key, "row": row} for row, key in enumerate(keys)]
    reader = ValidationReader(catalogue.root, pairs, config.validation_px)
    with streaming(preserve_order=True):
        return ray.data.from_items(items, override_num_blocks=len(items)).map(reader)


@dataclass(frozen=True)
class ValidationReader:
    """Turn a held-out key into its {key, lq, gt}."""

    root: str
    pairs: Synthesised
    side_px: int

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return at most side x side pixels from the centre, lq seeded by the row alone."""
        image = images.decode(storage.get(storage.join(self.root, item["key"]))).rgb
        top, left = (max(0, (length - self.side_px) // 2) for length in image.shape[:2])
        crop = image[top : top + self.side_px, left : left + self.side_px]
        gt = np.ascontiguousarray(crop)
        rng = np.random.default_rng([VALIDATION_SEED, item["row"]])
        return {"key": item["key"], "lq": self.pairs.degrade(gt, rng), "gt": gt}
