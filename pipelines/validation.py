"""Held-out images, degraded the same way every time: a stream of crops, or whole ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray.data

from pipelines import images, manifest
from pipelines.config import DataConfig, Profile
from pipelines.context import streaming
from pipelines.errors import ManifestError
from pipelines.families import Benchmark
from pipelines.pairs import Pairs
from pipelines.pixels import Pixels
from pipelines.scenes import Crop, Form
from pipelines.sources import Fetched, Files, pairs_of, read
from pipelines.tasks import Task

SEED = 0


def validation_stream(uris: tuple[str, ...], *, task: Task, config: DataConfig) -> ray.data.Dataset:
    """Return rows {key, lq, gt}: centre crops of held-out images, degraded the same every time."""
    sources, items = held_out(uris, task, config)
    reader = ValidationReader(sources, config.validation_px, task.channels)
    with streaming(preserve_order=True):
        return ray.data.from_items(items, override_num_blocks=len(items)).map(reader)


def held_out(
    uris: tuple[str, ...], task: Task, config: DataConfig
) -> tuple[tuple["HeldOut", ...], list[dict[str, Any]]]:
    """Return the sources of held-out images and the rows of those that are validated.

    Raises ManifestError when none is held out.
    """
    items = []
    readers = []
    for source, uri in enumerate(uris):
        catalogue = manifest.read(uri)
        rows = catalogue.usable("held_out", min_px=task.pairs.scale)
        pairs, roots = pairs_of(uri, catalogue, task), (catalogue.root, *catalogue.lq_roots)
        readers.append(HeldOut(roots, pairs, catalogue.profile))
        items += [
            {"source": source, "row": row} | each
            for row, each in enumerate(rows.slice(0, config.validation_images).to_pylist())
        ]
    if not items:
        raise ManifestError(
            f"{', '.join(uris)} holds no photo out of training; "
            "run laformer prepare with --holdout 0.2 on at least two photos"
        )
    # As many of each source as there is room for.
    items = sorted(items, key=lambda item: item["row"])[: config.validation_images]
    return tuple(readers), items


@dataclass(frozen=True)
class HeldOut:
    """Where the held-out images of a source are."""

    roots: tuple[str, ...]
    """Of gt, then of the captured views."""
    pairs: Pairs
    profile: Profile

    def files(self, item: dict[str, Any]) -> tuple[bytes, ...]:
        """Read gt and the captured views of a row."""
        keys = (item["key"], *item["lq_keys"])
        sizes = (item["num_bytes"], *item["lq_num_bytes"])
        return tuple(map(read, self.roots, keys, sizes))


@dataclass(frozen=True)
class ValidationReader:
    """Turn a held-out row into its {key, lq, gt}."""

    sources: tuple[HeldOut, ...]
    side_px: int
    channels: int

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return at most side x side pixels from the centre, lq seeded by the row alone."""
        source = self.sources[item["source"]]
        content = Files(source.files(item), source.profile)
        scene = Fetched(source.pairs, content).scene(source.pairs.scale)
        crop = Crop.centre(scene.gt.shape, self.side_px, source.pairs.scale)
        form = Form(bits=item["bits"], channels=self.channels)
        rng = np.random.default_rng([SEED, item["row"]])
        gt, lq = scene.cut(crop, source.pairs, form, rng)
        return {"key": item["key"], "lq": lq, "gt": gt}


@dataclass(frozen=True)
class WholePhotos:
    """Rows {key, lq, gt} of whole held-out photos, as the gate of the task judges them.

    A row is made when it is asked for: whole photos never cross the object store, and one at a
    time is in memory.
    """

    sources: tuple[HeldOut, ...]
    items: tuple[dict[str, Any], ...]
    gate: Benchmark

    @classmethod
    def of(cls, uris: tuple[str, ...], *, task: Task, config: DataConfig) -> "WholePhotos":
        """Return the held-out photos of manifests. Raises ManifestError when there are none."""
        sources, items = held_out(uris, task, config)
        return cls(sources, tuple(items), task.gate)

    def __getitem__(self, some: slice) -> "WholePhotos":
        """Return some of the photos."""
        return replace(self, items=self.items[some])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read and degrade one photo after the other."""
        for item in self.items:
            source = self.sources[item["source"]]
            gt, lq = judged(self.gate, source.files(item), source.profile)
            yield {"key": item["key"], "lq": lq, "gt": gt}


def judged(benchmark: Benchmark, files: Iterable[bytes], profile: Profile) -> tuple[Pixels, Pixels]:
    """Return gt (H, W, C) and the lq that was captured with it, or is made of it.

    Both are in the bits of the protocol, uint8 or uint16; made lq may be float32.
    """
    protocol = benchmark.protocol
    form = Form(bits=protocol.bits, channels=1 if protocol.channel == "grey" else 3)
    decoded = (form(images.decode(file, profile).pixels) for file in files)
    gt, *views = decoded if protocol.bits == 16 else map(images.eight_bit, decoded)
    if views:
        return gt, np.concatenate(views, axis=2)
    gt = benchmark.prepare(gt)
    return gt, benchmark.degrade(gt)
