"""What it is measured on: a benchmark, and where its images are."""

import dataclasses
import hashlib
from dataclasses import dataclass

from jobs import place
from jobs.config import EvaluateJob
from jobs.console import say
from jobs.errors import JobError
from jobs.evaluation.contender import Tagged, task_of
from pipelines import manifest, storage
from pipelines.benchmarks import BENCHMARKS
from pipelines.config import Profile
from pipelines.families import Benchmark
from pipelines.places import expected, places, present
from pipelines.sources import pairs_of

HELD_OUT, ALL = "held-out", "all"
CAPTURED = "-captured"
"""Ends the name of a benchmark whose lq was taken by a camera, not made."""


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
    """Of the images, so that scores of other images are not compared."""
    profile: Profile = "keep"
    """What becomes of embedded colour profiles."""


def subjects(job: EvaluateJob, model: Tagged) -> list[Subject]:
    """Find the images of all benchmarks that are asked for."""
    names = list(job.benchmark or (HELD_OUT,))
    if ALL in names:
        at = names.index(ALL)
        names[at : at + 1] = fitting(job, model)
    return [subject(name, job, model) for name in dict.fromkeys(names)]


def fitting(job: EvaluateJob, model: Tagged) -> list[str]:
    """Return the benchmarks of the model's task that are there; say which are not.

    Of a model without a task, all that are there. Raises JobError when there is none.
    """
    if not job.data:
        raise JobError(f"{ALL} looks for benchmarks in a folder; name it with --data FOLDER")
    data = storage.absolute(job.data)
    wanted = list(BENCHMARKS)
    if "task" in model.tags:
        own = {model.tags["task"], task_of(model).gate.task}
        wanted = [name for name, each in BENCHMARKS.items() if each.task in own]
    there = present(data, wanted)
    absent = [name for name in wanted if name not in there]
    if absent:
        say(f"not in {data}: {', '.join(absent)}; laformer evaluate --list shows their folders")
    if not there:
        raise JobError(
            f"no benchmark of {model} is in {data}; see the folders of all with: "
            "laformer evaluate --list"
        )
    return list(there)


def subject(name: str, job: EvaluateJob, model: Tagged) -> Subject:
    """Find the images of a benchmark. Raises JobError naming what to do when there are none."""
    if name == HELD_OUT or name.startswith(f"{HELD_OUT}-"):
        return held_out(job, model)
    if name not in BENCHMARKS:
        raise JobError(f"unknown benchmark {name!r}; use {HELD_OUT} or {', '.join(BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    if not job.data:
        raise JobError(
            f"{name} needs its images; give the folder above {expected(benchmark)} "
            "with --data FOLDER"
        )
    found = places(benchmark, storage.absolute(job.data))
    keys = tuple(tuple(entry.key for entry in row) for row in found.rows)
    sizes = tuple(tuple(entry.num_bytes for entry in row) for row in found.rows)
    # A copy of a public benchmark has other etags and times, and is the same benchmark.
    marks = ["\0".join(map(str, each)) for each in sizes]
    return Subject(benchmark, found.roots, keys, sizes, digest_of(keys, marks, "keep"))


def held_out(job: EvaluateJob, model: Tagged) -> Subject:
    """Find the photos of a manifest that training never saw."""
    task, uri = task_of(model), place.manifest_uri(job.manifest)
    catalogue = manifest.read(uri)
    rows = catalogue.usable("held_out")
    if not rows.num_rows:
        raise JobError(f"{uri} holds no photo out; run laformer prepare with --holdout 0.2")
    found = task.gate
    if catalogue.digest() not in model.tags.get("manifest_sha256", "").split("+"):
        say(f"note: {model} was trained on another manifest; it may have seen these photos")
    pairs_of(uri, catalogue, task)  # refuses pairs of another task
    if catalogue.captured:
        found = dataclasses.replace(found, name=f"{found.name}{CAPTURED}")
    roots, profile = (catalogue.root, *catalogue.lq_roots), catalogue.profile
    images_of = rows.to_pylist()
    sizes = tuple((row["num_bytes"], *row["lq_num_bytes"]) for row in images_of)
    keys = tuple((row["key"], *row["lq_keys"]) for row in images_of)
    etags = ["\0".join((row["etag"], *row["lq_etags"])) for row in images_of]
    return Subject(found, roots, keys, sizes, digest_of(keys, etags, profile), profile)


def digest_of(keys: tuple[tuple[str, ...], ...], marks: list[str], profile: Profile) -> str:
    """Return the sha256 of images by name and mark."""
    lines = "\n".join("\0".join((*key, mark)) for key, mark in zip(keys, marks, strict=True))
    lines += "" if profile == "keep" else f"\n{profile}"
    return hashlib.sha256(lines.encode()).hexdigest()
