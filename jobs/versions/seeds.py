"""How far trainings that differ in nothing but their seed lie apart.

A version says its seed and the digest of what else it was trained with. Versions of one digest that
were measured alike give a standard deviation; that of the candidate's recipe and that of the
champion's are pooled. Two or three seeds say it roughly, and one says nothing: then it is unknown,
not zero.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import variance
from typing import Any

from jobs.config import TrainJob
from jobs.training.runs import flatten
from jobs.versions.registry import Version

SEED, RECIPE = "seed", "recipe_sha256"
"""Tags of a version: the seed of its samples and weights, and the digest of all else."""
TIMES = 2 * math.sqrt(2)
"""Spreads that a gain must exceed: two standard deviations of a difference of two trainings, each
of which has the spread."""
CHANGES_NO_SCORE = (
    "name",
    "candidate",
    "workers",
    "hang_s",
    "manifest",  # where the photos are; its digest is counted
    "init",  # what the first weights are called; their digest is counted
    "train.seed",
    "train.accumulate",
)
"""Values of a job in which two trainings of the same recipe may differ."""


@dataclass(frozen=True)
class Spread:
    """The standard deviation of a score over seeds."""

    psnr_db: float
    source: str
    """How it is known."""


def tags(job: TrainJob, facts: dict[str, Any]) -> dict[str, str]:
    """Return what tells trainings of the same recipe apart, and recipes from each other."""
    values = flatten(asdict(job))
    counted: dict[str, Any] = {
        name: values[name] for name in values if name not in CHANGES_NO_SCORE
    }
    counted["manifest"] = facts["samples"]["manifest"]
    counted["init"] = (facts.get("init") or {}).get("sha256")
    text = json.dumps(counted, sort_keys=True)
    return {SEED: str(job.train.seed), RECIPE: hashlib.sha256(text.encode()).hexdigest()}


def spread(
    versions: Iterable[Version], candidate: Version, champion: Version, benchmark: str
) -> Spread | None:
    """Return the spread on a benchmark over seeds of the candidate's recipe and the champion's.

    Of each seed of a recipe the newest version counts, if it was measured like the candidate. None
    when neither has two seeds.
    """
    groups: dict[str, dict[str, Version]] = {}
    for version in sorted(versions, key=lambda version: version.number):
        recipe, seed = (version.tags.get(name) for name in (RECIPE, SEED))
        ours = (candidate.tags.get(RECIPE), champion.tags.get(RECIPE))
        if recipe and seed and recipe in ours and _alike(version, candidate, benchmark):
            groups.setdefault(recipe, {})[seed] = version
    several = [list(group.values()) for group in groups.values() if len(group) > 1]
    if not several:
        return None
    squares, free = 0.0, 0
    for group in several:
        scores = [float(version.tags[f"psnr_db.{benchmark}"]) for version in group]
        squares += variance(scores) * (len(scores) - 1)
        free += len(scores) - 1
    names = ", ".join(str(version) for group in several for version in group)
    return Spread(math.sqrt(squares / free), names)


def _alike(version: Version, candidate: Version, benchmark: str) -> bool:
    """Return whether a version was measured on the candidate's photos, under its protocol."""
    same = all(
        version.tags.get(f"{fact}.{benchmark}") == candidate.tags.get(f"{fact}.{benchmark}")
        for fact in ("images", "protocol")
    )
    return same and f"psnr_db.{benchmark}" in version.tags
