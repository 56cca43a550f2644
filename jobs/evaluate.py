"""laformer evaluate: a registered model under named protocols, and what it scored per image."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))

import dataclasses
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
from jobs.tracking import Tracker
from jobs.versions.registry import Registry, Version
from laformer import metrics, ssim
from pipelines import images, manifest, storage
from pipelines.benchmarks import BENCHMARKS, Benchmark, Protocol
from pipelines.config import Profile
from pipelines.errors import DataError
from pipelines.restoration import actor_stream
from pipelines.sources import pairs_of, read
from pipelines.tasks import Task, find
from pipelines.validation import judged

HELD_OUT = "held-out"
CAPTURED = "-captured"
"""Ends the name of a benchmark whose lq was taken by a camera, not made."""
MEASURES = ("input_psnr_db", "psnr_db", "input_ssim", "ssim")


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
    """Per image: key, input_psnr_db, psnr_db, and input_ssim, ssim where the protocol has them."""
    input_ssim: float | None = None
    """Mean over images of the degraded input; None where the protocol has no SSIM."""
    ssim: float | None = None
    """Mean over images of the restored output; None where the protocol has no SSIM."""

    @property
    def means(self) -> dict[str, float]:
        """Return what was measured, by the name it has in a row."""
        found = {name: getattr(self, name) for name in MEASURES}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Subject:
    """A benchmark and where its images are."""

    benchmark: Benchmark
    roots: tuple[str, ...]
    """Of gt, then of the captured views; where lq is made, of gt alone."""
    keys: tuple[tuple[str, ...], ...]
    """Of each image, one below each root."""
    sizes: tuple[tuple[int, ...], ...]
    """Bytes of the files, as they were listed."""
    digest: str
    profile: Profile = "keep"
    """What becomes of embedded colour profiles."""


def run(job: EvaluateJob) -> list[Score]:
    """Measure a model on every benchmark asked for; keep the scores with the version."""
    registry = Registry()
    version = registry.resolve(job.model)
    subjects = [subject(name, job, version) for name in job.benchmark or (HELD_OUT,)]
    _, files = load(str(version))
    scores = []
    with connected() as cluster:
        for chosen in subjects:
            scores.append(measure(chosen, files, cluster))
            record(registry, Tracker(), version, scores[-1])
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
        if catalogue.digest() not in version.tags.get("manifest_sha256", "").split("+"):
            say(f"note: {version} was trained on another manifest; it may have seen these photos")
        pairs_of(uri, catalogue, task_of(version))  # refuses pairs of another task
        if catalogue.captured:
            found = dataclasses.replace(found, name=f"{found.name}{CAPTURED}")
        roots, profile = (catalogue.root, *catalogue.lq_roots), catalogue.profile
        images_of = rows.to_pylist()
        sizes = tuple((row["num_bytes"], *row["lq_num_bytes"]) for row in images_of)
        keys = tuple((row["key"], *row["lq_keys"]) for row in images_of)
        etags = ["\0".join((row["etag"], *row["lq_etags"])) for row in images_of]
    elif name in BENCHMARKS:
        found = BENCHMARKS[name]
        if not job.data:
            raise JobError(f"{name} needs its images; give the folder above with --data FOLDER")
        root = storage.join(storage.absolute(job.data), found.folder)
        entries = storage.list_entries(root, images.SUFFIXES)
        if not entries:
            raise JobError(f"no images in {root}; {name} expects them there")
        profile, roots, keys = "keep", (root,), tuple((entry.key,) for entry in entries)
        sizes = tuple((entry.num_bytes,) for entry in entries)
        etags = [str(entry.num_bytes) for entry in entries]
    else:
        raise JobError(f"unknown benchmark {name!r}; use {HELD_OUT} or {', '.join(BENCHMARKS)}")
    lines = "\n".join("\0".join((*key, etag)) for key, etag in zip(keys, etags, strict=True))
    lines += "" if profile == "keep" else f"\n{profile}"
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return Subject(found, roots, keys, sizes, digest, profile)


def task_of(version: Version) -> Task:
    """Return what a version was trained for. Raises JobError for a model of another origin."""
    if "task" not in version.tags:
        raise JobError(f"{version} does not say its task; register it with laformer train")
    return find(version.tags["task"])


def measure(chosen: Subject, files: dict[str, bytes], cluster: Cluster) -> Score:
    """Restore every image of a benchmark on the cluster and average."""
    cluster.require_shared(*chosen.roots)
    pool = cluster.pool(most=len(chosen.keys))
    loader = LoadRestorer(ray.put(files), cluster.threads(pool.actors))
    items = [
        {"keys": list(keys), "sizes": list(sizes)}
        for keys, sizes in zip(chosen.keys, chosen.sizes, strict=True)
    ]
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
        rows=tuple(rows),
        **{name: fmean(row[name] for row in rows) for name in MEASURES if name in rows[0]},
    )


class Measure:
    """Restores and scores one image after the other with one loaded model."""

    def __init__(self, chosen: Subject, loader: LoadRestorer) -> None:
        cv2.setNumThreads(0)
        self.chosen = chosen
        self.restore = loader()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the scores of one image."""
        benchmark, key = self.chosen.benchmark, str(item["keys"][0])
        try:
            gt, lq = self._pair(item["keys"], item["sizes"])
        except ValueError as error:
            raise DataError(f"{key}: {error}") from error
        restored = self.restore(lq)
        if restored.shape != gt.shape:
            raise DataError(
                f"{key}: the restored image is {restored.shape} but gt {gt.shape}; "
                f"{benchmark.name} measures models of the task {benchmark.task}"
            )
        try:
            before = scores(benchmark.shown(lq), gt, benchmark.protocol)
            after = scores(restored, gt, benchmark.protocol)
        except ValueError as error:
            raise DataError(f"{key}: {error}") from error
        return {"key": key} | {f"input_{name}": x for name, x in before.items()} | after

    def _pair(self, keys: list[str], sizes: list[int]) -> tuple[Any, Any]:
        """Return gt, and the lq that was captured with it or is made of it."""
        files = map(read, self.chosen.roots, keys, sizes)
        return judged(self.chosen.benchmark, files, self.chosen.profile)


def scores(image: Any, gt: Any, protocol: Protocol) -> dict[str, float]:
    """Return what the protocol measures of an image against gt uint8, under its own name.

    The image is uint8, or float in units of the full range; psnr_db is in dB.
    """
    a, b = compared(image, protocol), compared(gt, protocol)
    found = {"psnr_db": metrics.psnr(a, b)}
    return found | {"ssim": ssim.gaussian(a, b)} if protocol.ssim else found


@dataclass(frozen=True)
class Judge:
    """PSNR in dB under a protocol, as a value that can be sent to a worker."""

    protocol: Protocol

    def __call__(self, restored: Any, gt: Any) -> float:
        """Compare floats in units of the full range with gt uint8, both (H, W, C)."""
        return metrics.psnr(compared(restored, self.protocol), compared(gt, self.protocol))


def compared(image: Any, protocol: Protocol) -> Any:
    """Return what the protocol compares of an image, in 8-bit levels."""
    levels = image
    if image.dtype != np.uint8:
        levels = metrics.quantise(image) if protocol.quantise else image * 255.0
    inside = metrics.shave(levels, protocol.border_px)
    match protocol.channel:
        case "y":
            return metrics.luma(inside)
        case "y-rounded":
            return metrics.rounded_luma(inside)
        case "rgb" | "grey":
            return inside


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
    restored = {name: value for name, value in found.means.items() if "input" not in name}
    tracker.metrics(
        version.run_id, {f"{name}.{found.benchmark}": value for name, value in restored.items()}
    )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(found.rows)), buffer)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / rows_file(version, found.benchmark)
        path.write_bytes(buffer.getvalue())
        tracker.file(version.run_id, path)


def rows_file(version: Version, benchmark: str) -> str:
    """Return the name under which the scores of images are kept with the run."""
    return f"{benchmark}-v{version.number}.parquet"


def table(version: Version, scores: list[Score]) -> Table:
    """Return the scores beside the input's and the published ones, each under its protocol."""
    shown = Table(title=f"PSNR in dB, and SSIM where the protocol has it, of {version}")
    for column in ("benchmark", "protocol", "images", "input", "restored", "published"):
        shown.add_column(column, no_wrap=True)
    for found in scores:
        known = BENCHMARKS.get(found.benchmark)
        published = "\n".join(f"{n} {v:.2f}" for n, v in known.published) if known else ""
        shown.add_row(
            found.benchmark,
            found.protocol,
            str(len(found.rows)),
            cell(found.input_psnr_db, found.input_ssim),
            cell(found.psnr_db, found.ssim),
            published or "-",
        )
    return shown


def cell(psnr_db: float, ssim: float | None) -> str:
    """Return a score as it is printed."""
    return f"{psnr_db:.2f}" if ssim is None else f"{psnr_db:.2f} / {ssim:.4f}"
