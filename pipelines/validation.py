"""The validation stream: crops of held-out images, degraded the same way every time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray.data

from pipelines import manifest
from pipelines.config import DataConfig, Profile
from pipelines.context import streaming
from pipelines.errors import ManifestError
from pipelines.pairs import Pairs
from pipelines.scenes import Crop, Form
from pipelines.sources import Fetched, Files, pairs_of, read
from pipelines.tasks import Task

SEED = 0


def validation_stream(uris: tuple[str, ...], *, task: Task, config: DataConfig) -> ray.data.Dataset:
    """Return rows {key, lq, gt}: centre crops of held-out images, degraded the same every time."""
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
    reader = ValidationReader(tuple(readers), config.validation_px, task.channels)
    with streaming(preserve_order=True):
        return ray.data.from_items(items, override_num_blocks=len(items)).map(reader)


@dataclass(frozen=True)
class HeldOut:
    """Where the held-out images of a source are."""

    roots: tuple[str, ...]
    """Of gt, then of the captured views."""
    pairs: Pairs
    profile: Profile


@dataclass(frozen=True)
class ValidationReader:
    """Turn a held-out row into its {key, lq, gt}."""

    sources: tuple[HeldOut, ...]
    side_px: int
    channels: int

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return at most side x side pixels from the centre, lq seeded by the row alone."""
        source = self.sources[item["source"]]
        keys = (item["key"], *item["lq_keys"])
        sizes = (item["num_bytes"], *item["lq_num_bytes"])
        files = map(read, source.roots, keys, sizes)
        content = Files(tuple(files), source.profile)
        scene = Fetched(source.pairs, content).scene(source.pairs.scale)
        crop = Crop.centre(scene.gt.shape, self.side_px, source.pairs.scale)
        form = Form(bits=item["bits"], channels=self.channels)
        rng = np.random.default_rng([SEED, item["row"]])
        gt, lq = scene.cut(crop, source.pairs, form, rng)
        return {"key": item["key"], "lq": lq, "gt": gt}
