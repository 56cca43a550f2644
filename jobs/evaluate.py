"""laformer evaluate: a registered model under named protocols, and what it scored per image."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))

import hashlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.table import Table

from jobs import place
from jobs.cluster import Cluster, connected
from jobs.config import EvaluateJob
from jobs.console import CONSOLE, bar, say
from jobs.errors import JobError
from jobs.restore import LoadRestorer, load
from jobs.tracking import Tracker, Version
from laformer import metrics
from pipelines import images, manifest, storage
from pipelines.benchmarks import BENCHMARKS, Benchmark, Protocol
from pipelines.errors import DataError
from pipelines.restoration import actor_stream
from pipelines.tasks import Task, find

HELD_OUT = "held-out"


@dataclass(frozen=True, kw_only=True)
class Score:
    """A model on a benchmark."""

    benchmark: str
    """Name of the benchmark."""
    protocol: str
    """Name of the rule; two scores compare only under the same."""
    digest: str
    """Of the images, so that scores of other images are not compared."""
    input_psnr_db: float
    """Mean over images of the degraded input."""
    psnr_db: float
    """Mean over images of the restored output."""
    rows: tuple[dict[str, Any], ...]
    """Per image: key, input_psnr_db, psnr_db."""


@dataclass(frozen=True)
class Subject:
    """A benchmark and where its images are."""

    benchmark: Benchmark
    root: str
    keys: tuple[str, ...]
    digest: str


def run(job: EvaluateJob) -> list[Score]:
    """Measure a model on every benchmark asked for; keep the scores with the version."""
    tracker = Tracker()
    version = tracker.resolve(job.model)
    subjects = [subject(name, job, version) for name in job.benchmark or (HELD_OUT,)]
    _, files = load(str(version))
    scores = []
    with connected() as cluster:
        for chosen in subjects:
            scores.append(measure(chosen, files, cluster))
            record(tracker, version, scores[-1])
    CONSOLE.print(table(version, scores))
    return scores


def subject(name: str, job: EvaluateJob, version: Version) -> Subject:
    """Find the images of a benchmark. Raises JobError naming what to do when there are none."""
    if name == HELD_OUT or name.startswith(f"{HELD_OUT}-"):
        uri = place.manifest_uri(job.manifest)
        catalogue = manifest.read(uri)
        rows = catalogue.usable("held_out")
        if not rows.num_rows:
            raise JobError(f"{uri} holds no photo out; run laformer prepare with --holdout 0.2")
        found = task_of(version).gate
        if catalogue.digest() != version.tags.get("manifest_sha256"):
            say(f"note: {version} was trained on another manifest; it may have seen these photos")
        keys, root = tuple(rows["key"].to_pylist()), catalogue.root
        etags = rows["etag"].to_pylist()
    elif name in BENCHMARKS:
        found = BENCHMARKS[name]
        if not job.data:
            raise JobError(f"{name} needs its images; give the folder above with --data FOLDER")
        root = storage.join(storage.absolute(job.data), found.folder)
        entries = storage.list_entries(root, images.SUFFIXES)
        if not entries:
            raise JobError(f"no images in {root}; {name} expects them there")
        keys = tuple(entry.key for entry in entries)
        etags = [str(entry.num_bytes) for entry in entries]
    else:
        raise JobError(f"unknown benchmark {name!r}; use {HELD_OUT} or {', '.join(BENCHMARKS)}")
    lines = "\n".join(f"{key}\0{etag}" for key, etag in zip(keys, etags, strict=True))
    return Subject(found, root, keys, hashlib.sha256(lines.encode()).hexdigest())


def task_of(version: Version) -> Task:
    """Return what a version was trained for. Raises JobError for a model of another origin."""
    if "task" not in version.tags:
        raise JobError(f"{version} does not say its task; register it with laformer train")
    return find(version.tags["task"])


def measure(chosen: Subject, files: dict[str, bytes], cluster: Cluster) -> Score:
    """Restore every image of a benchmark on the cluster and average."""
    cluster.require_shared(chosen.root)
    pool = cluster.pool(most=len(chosen.keys))
    loader = LoadRestorer(ray.put(files), cluster.threads(pool.actors))
    items = [{"key": key} for key in chosen.keys]
    rows = []
    with bar(f"evaluating {chosen.benchmark.name}", len(items)) as progress:
        for row in actor_stream(items, Measure, (chosen, loader), pool):
            rows.append(row)
            progress.update(len(rows))
    if len(rows) != len(chosen.keys):
        raise JobError(f"{len(chosen.keys)} images but {len(rows)} scores; run again")
    rows.sort(key=lambda row: row["key"])
    return Score(
        benchmark=chosen.benchmark.name,
        protocol=chosen.benchmark.protocol.name,
        digest=chosen.digest,
        input_psnr_db=fmean(row["input_psnr_db"] for row in rows),
        psnr_db=fmean(row["psnr_db"] for row in rows),
        rows=tuple(rows),
    )


class Measure:
    """Restores and scores one image after the other with one loaded model."""

    def __init__(self, chosen: Subject, loader: LoadRestorer) -> None:
        cv2.setNumThreads(0)
        self.chosen = chosen
        self.restore = loader()

    def __call__(self, item: dict[str, str]) -> dict[str, Any]:
        """Return the scores of one image."""
        benchmark = self.chosen.benchmark
        data = storage.get(storage.join(self.chosen.root, item["key"]))
        photo = images.decode(data)
        wanted = photo.pixels if benchmark.protocol.channel == "grey" else photo.rgb
        try:
            gt = benchmark.prepare(images.eight_bit(wanted))
        except ValueError as error:
            raise DataError(f"{item['key']}: {error}") from error
        lq = benchmark.degrade(gt)
        restored = self.restore(lq)
        return {
            "key": item["key"],
            "input_psnr_db": score(lq, gt, benchmark.protocol),
            "psnr_db": score(restored, gt, benchmark.protocol),
        }


def score(image: Any, gt: Any, protocol: Protocol) -> float:
    """Return the PSNR in dB of an image in units of the full range, or uint8, against gt uint8."""
    levels = image if image.dtype == np.uint8 else metrics.quantise(image)
    if not protocol.quantise and image.dtype != np.uint8:
        levels = image * 255.0
    a, b = (metrics.shave(x, protocol.border_px) for x in (levels, gt))
    if protocol.channel == "y":
        a, b = metrics.luma(a), metrics.luma(b)
    return metrics.psnr(a, b)


def record(tracker: Tracker, version: Version, found: Score) -> None:
    """Keep a score with its version, and the images' scores with its run."""
    tracker.tag(
        version,
        {
            f"psnr_db.{found.benchmark}": f"{found.psnr_db:.4f}",
            f"input_psnr_db.{found.benchmark}": f"{found.input_psnr_db:.4f}",
            f"protocol.{found.benchmark}": found.protocol,
            f"images.{found.benchmark}": found.digest,
        },
    )
    tracker.metrics(version.run_id, {f"psnr_db.{found.benchmark}": found.psnr_db})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(found.rows)), buffer)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"{found.benchmark}-v{version.number}.parquet"
        path.write_bytes(buffer.getvalue())
        tracker.file(version.run_id, path)


def table(version: Version, scores: list[Score]) -> Table:
    """Return the scores beside the input's and the published ones, each under its protocol."""
    shown = Table(title=f"PSNR in dB of {version}")
    for column in ("benchmark", "protocol", "images", "input", "restored", "published"):
        shown.add_column(column, no_wrap=True)
    for found in scores:
        known = BENCHMARKS.get(found.benchmark)
        published = "\n".join(f"{n} {v:.2f}" for n, v in known.published) if known else ""
        shown.add_row(
            found.benchmark,
            found.protocol,
            str(len(found.rows)),
            f"{found.input_psnr_db:.2f}",
            f"{found.psnr_db:.2f}",
            published or "-",
        )
    return shown
