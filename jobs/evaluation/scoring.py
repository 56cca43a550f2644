"""A model on a benchmark: every image restored and scored on the cluster, and the means."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.cluster import Cluster
from jobs.console import bar
from jobs.errors import JobError
from jobs.evaluation.contender import Contender
from jobs.evaluation.intervals import Interval
from jobs.evaluation.measures import MEASURES, NIQE, Scorer, fed
from jobs.evaluation.perceptual import Besides
from jobs.evaluation.subjects import Subject
from jobs.tracking import Tracker
from jobs.versions.registry import Registry, Version
from pipelines.errors import DataError
from pipelines.inputs import Taken
from pipelines.restoration import actor_stream
from pipelines.sources import read
from pipelines.validation import judged

BEFORE = "input_"
"""Begins the name of a measure of the degraded input."""
NOTHING = Besides()


@dataclass(frozen=True, kw_only=True)
class Score:
    """A model on a benchmark."""

    benchmark: str
    """Name of the benchmark."""
    protocol: str
    """Name of the rule; two scores compare only under the same."""
    digest: str
    """Of the images, so that scores of other images are not compared."""
    rows: tuple[dict[str, Any], ...]
    """Per image: key, and each measure of the restored output and, with `input_`, of the input."""

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Return what was measured, as `measures.kind` knows it."""
        further = (name for name in self.rows[0] if name.startswith(NIQE))
        return tuple(name for name in (*MEASURES, *further) if name in self.rows[0])

    @cached_property
    def means(self) -> dict[str, float]:
        """Return the means over images, by the names of a row."""
        names = [f"{prefix}{name}" for name in self.measures for prefix in (BEFORE, "")]
        return {name: fmean(self.values(name)) for name in names}

    @cached_property
    def intervals(self) -> dict[str, Interval | None]:
        """Return the 95 % interval of each mean of the restored output."""
        return {name: Interval.of(self.values(name)) for name in self.measures}

    @property
    def psnr_db(self) -> float:
        """Return the mean PSNR of the restored output."""
        return self.means["psnr_db"]

    @property
    def input_psnr_db(self) -> float:
        """Return the mean PSNR of the degraded input."""
        return self.means["input_psnr_db"]

    def values(self, name: str) -> list[float]:
        """Return a measure of all images."""
        return [row[name] for row in self.rows]

    def gains_db(self) -> list[float]:
        """Return by how much the PSNR of each image rose; 0 where both are infinite."""
        both = zip(self.values("psnr_db"), self.values("input_psnr_db"), strict=True)
        return [0.0 if after == before else after - before for after, before in both]


def measure(
    chosen: Subject, model: Contender, cluster: Cluster, besides: Besides = NOTHING
) -> Score:
    """Restore every image of a benchmark on the cluster and score it."""
    cluster.require_shared(*chosen.roots)
    pool = cluster.pool(most=len(chosen.keys))
    items = [
        {"keys": list(keys), "sizes": list(sizes)}
        for keys, sizes in zip(chosen.keys, chosen.sizes, strict=True)
    ]
    arguments = (chosen, model.loader(chosen.benchmark), besides)
    rows = []
    with bar(f"evaluating {chosen.benchmark.name}", len(items)) as progress:
        for row in actor_stream(items, Measure, arguments, pool):
            rows.append(row)
            progress.update(len(rows))
    if len(rows) != len(chosen.keys):
        raise JobError(f"{len(chosen.keys)} images but {len(rows)} scores; run again")
    rows.sort(key=lambda row: row["key"])
    return Score(
        benchmark=chosen.benchmark.name,
        protocol=chosen.benchmark.protocol.name,
        digest=chosen.digest,
        rows=tuple(rows),
    )


@dataclass(frozen=True)
class Seen:
    """An image before and after a network."""

    gt: Any
    """(H, W, C) in levels of the protocol's bits."""
    shown: Any
    """The input in the size of gt: in levels, or float32."""
    restored: Any
    """As `shown`; float32 where the protocol does not round."""


class Viewer:
    """Restores one image after the other with one loaded model."""

    def __init__(self, chosen: Subject, loader: Callable[[], Any]) -> None:
        cv2.setNumThreads(0)
        self.chosen = chosen
        self.restore = loader()

    def __call__(self, item: dict[str, Any]) -> Seen:
        """Return one image of a benchmark. Raises DataError naming it when it cannot be."""
        benchmark, key = self.chosen.benchmark, key_of(self.chosen, item)
        try:
            files = map(read, self.chosen.roots, item["keys"], item["sizes"])
            gt, lq = judged(benchmark, files, self.chosen.profile)
        except ValueError as error:
            raise DataError(f"{key}: {error}") from error
        restored = self.restore(fed(lq, benchmark.protocol))
        if restored.shape != gt.shape:
            raise DataError(
                f"{key}: the restored image is {restored.shape} but gt {gt.shape}; "
                f"{benchmark.name} measures models of the task {benchmark.task}"
            )
        return Seen(gt, benchmark.shown(lq), restored)


class Measure:
    """Restores and scores one image after the other with one loaded model."""

    def __init__(
        self,
        chosen: Subject,
        loader: Callable[[], Any],
        besides: Besides = NOTHING,
    ) -> None:
        self.view = Viewer(chosen, loader)
        self.score = Scorer(chosen.benchmark.protocol, besides.load())

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the scores of one image."""
        seen, key = self.view(item), key_of(self.view.chosen, item)
        try:
            before = self.score(seen.shown, seen.gt)
            after = self.score(seen.restored, seen.gt)
        except ValueError as error:
            raise DataError(f"{key}: {error}") from error
        return {"key": key} | {f"{BEFORE}{name}": x for name, x in before.items()} | after


def key_of(chosen: Subject, item: dict[str, Any]) -> str:
    """Return the name of an image: that of lq where a gt may have several."""
    degrade = chosen.benchmark.degrade
    return str(item["keys"][1 if isinstance(degrade, Taken) and degrade.match else 0])


def record(registry: Registry, tracker: Tracker, version: Version, found: Score) -> None:
    """Keep a score with its version, and the images' scores with its run."""
    registry.tag(
        version,
        {f"{name}.{found.benchmark}": f"{value:.4f}" for name, value in found.means.items()}
        | {
            f"protocol.{found.benchmark}": found.protocol,
            f"images.{found.benchmark}": found.digest,
        },
    )
    restored = {f"{name}.{found.benchmark}": found.means[name] for name in found.measures}
    tracker.metrics(version.run_id, restored)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / rows_file(version, found.benchmark)
        path.write_bytes(parquet(found))
        tracker.file(version.run_id, path)


def parquet(found: Score) -> bytes:
    """Return the scores of all images as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(found.rows)), buffer)
    return buffer.getvalue()


def rows_file(version: Version, benchmark: str) -> str:
    """Return the name under which the scores of images are kept with the run."""
    return f"{benchmark}-v{version.number}.parquet"
