"""What is measured: a registered version, a checkpoint, or no network at all."""

import json
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from jobs import checkpoints
from jobs.errors import JobError
from jobs.restore import LoadRestorer, load
from jobs.versions.registry import Registry, Version
from laformer import checkpoint
from pipelines.families import Benchmark
from pipelines.tasks import Task, find

INPUT = "input"
"""The name of the contender that leaves its input as it is: what a network has to beat."""
THREADS = 2
"""Of torch in each worker without a GPU. It must not follow from the number of workers: sums in
another order differ in the last bit, and now and then a rounded level with them."""


class Tagged(Protocol):
    """A model of which something is known: a registered version, or a contender."""

    @property
    def tags(self) -> dict[str, str]:
        """Return its task and the digests of what it was trained on, where they are known."""


@dataclass(frozen=True)
class Contender:
    """A network, or none, and what is known of it."""

    name: str
    """Version or place, exactly."""
    files: dict[str, bytes]
    """Of its checkpoint; empty for the input."""
    tags: dict[str, str]
    """As a registered version has them: the task, and the digests of what it was trained on."""
    version: Version | None = None
    """Where its scores are kept; a checkpoint and the input have no such place."""

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def loader(self, benchmark: Benchmark) -> Any:
        """Return what loads it in a worker."""
        if not self.files:
            return Untouched(benchmark)
        return LoadRestorer(ray.put(self.files), THREADS)


@dataclass(frozen=True)
class Untouched:
    """Loads what restores nothing: the input in the size of gt, as it is shown."""

    benchmark: Benchmark

    def __call__(self) -> Any:
        """Return pixels in, pixels out."""
        return self.benchmark.shown


def contender(model: str) -> Contender:
    """Return what a user named: `input`, a checkpoint folder or file, or a registered version."""
    if model == INPUT:
        return Contender(INPUT, {}, {})
    if checkpoints.named(model):
        name, files = load(model)
        facts = json.loads(files[checkpoint.FACTS])
        tags = {"task": facts.get("task"), "manifest_sha256": _samples(facts)}
        return Contender(name, files, {key: str(tag) for key, tag in tags.items() if tag})
    version = Registry().resolve(model)
    _, files = load(str(version))
    return Contender(str(version), files, version.tags, version)


def task_of(model: Tagged) -> Task:
    """Return what a model was trained for. Raises JobError for a model of another origin."""
    if "task" not in model.tags:
        raise JobError(
            f"{model} does not say its task; register it with laformer train, or name a benchmark"
        )
    return find(model.tags["task"])


def _samples(facts: dict[str, Any]) -> str | None:
    samples = facts.get("samples")
    return samples.get("manifest") if isinstance(samples, dict) else None
