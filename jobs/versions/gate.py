"""The checks between a candidate and the alias champion, each with its rule and what was found.

A gain counts when it is beyond two spreads. That of photos is a paired bootstrap over images: both
versions were measured on the same photos, so the differences leave out how hard each photo is; it
says whether the gain would hold on other photos of the kind. That of seeds (`jobs.versions.seeds`)
says whether training again would have it too, and is known where several seeds were trained.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.table import Table

from jobs.errors import JobError
from jobs.evaluation.intervals import Interval
from jobs.evaluation.scoring import rows_file
from jobs.tracking import Tracker
from jobs.versions import seeds
from jobs.versions.registry import Version
from jobs.versions.seeds import Spread
from pipelines.benchmarks import BENCHMARKS

EXACT_DB = 100.0
"""What an image without any error counts as: two infinities have no difference."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the gate."""

    what: str
    """What was looked at."""
    found: str
    """What was found, with its unit."""
    rule: str
    """What it must be."""
    holds: bool
    act: str = ""
    """What to do when it does not hold."""

    def __str__(self) -> str:
        """Return it as a message says it."""
        return f"{self.what}: {self.found}, the rule is {self.rule}" + (
            f"; {self.act}" if self.act else ""
        )


@dataclass(frozen=True)
class Gain:
    """How much better one version is on the same images."""

    mean_db: float
    low_db: float
    """Lower end of the interval of the mean."""
    high_db: float
    """Upper end."""
    num_images: int

    @classmethod
    def of(cls, ours: dict[str, float], theirs: dict[str, float]) -> "Gain":
        """Compare the PSNR in dB of images by key.

        >>> Gain.of({"a": 30.0, "b": 32.0}, {"a": 29.0, "b": 31.0})
        Gain(mean_db=1.0, low_db=1.0, high_db=1.0, num_images=2)
        """
        if ours.keys() != theirs.keys():
            raise JobError("the two were measured on other photos; measure both again")
        keys = sorted(ours)
        capped = [np.minimum([each[key] for key in keys], EXACT_DB) for each in (ours, theirs)]
        gains: NDArray[np.float64] = capped[0] - capped[1]
        spread = Interval.of(gains)
        assert spread is not None  # all are finite: they are capped
        return cls(float(gains.mean()), spread.low, spread.high, len(gains))


@dataclass(frozen=True)
class Least:
    """What a gain over the champion must be above."""

    gain_db: float = 0.0
    """By itself, with its whole interval over photos."""
    spread: Spread | None = None
    """Of seeds; so many of these as well, where it is known."""


def score_checks(
    tracker: Tracker,
    candidate: Version,
    champion: Version | None,
    benchmark: str,
    least: Least,
) -> Iterator[Check]:
    """Yield whether a candidate beats its input, and the champion by more than chance."""
    name = f"{benchmark}, {candidate.tags.get(f'protocol.{benchmark}', 'unknown protocol')}"
    try:
        psnr_db, input_db = (measured(candidate, benchmark, of) for of in ("", "input_"))
        yield Check(
            what=name,
            found=f"{psnr_db:.2f} dB",
            rule=f"above the {input_db:.2f} dB of its degraded input",
            holds=psnr_db > input_db,
            act="train longer",
        )
        if champion is not None:
            gain = gain_over(tracker, candidate, champion, benchmark)
            yield Check(
                what=f"{name}, gain over {champion}",
                found=(
                    f"{gain.mean_db:+.3f} dB ({gain.low_db:+.3f} to {gain.high_db:+.3f} on "
                    f"{gain.num_images} images)"
                ),
                rule=f"all of the interval above {least.gain_db:g} dB",
                holds=gain.low_db > least.gain_db,
                act="train longer, or measure on more photos",
            )
            yield seed_check(name, gain, least)
    except JobError as error:
        yield Check(what=name, found=str(error), rule="a score", holds=False)


def seed_check(name: str, gain: Gain, least: Least) -> Check:
    """Return whether a gain is more than another seed may bring."""
    spread = least.spread
    if spread is None:
        return Check(
            what=f"{name}, spread of seeds",
            found="spread unknown (1 seed)",
            rule="known from 2 seeds of a recipe on, or with --seed-spread-db",
            holds=True,
        )
    least_db = least.gain_db + seeds.TIMES * spread.psnr_db
    return Check(
        what=f"{name}, gain and the spread of seeds",
        found=f"{gain.mean_db:+.3f} dB; spread {spread.psnr_db:.3f} dB ({spread.source})",
        rule=f"above {least.gain_db:g} dB + {seeds.TIMES:.1f} spreads = {least_db:.3f} dB",
        holds=gain.mean_db > least_db,
        act="another seed may bring as much: train a better recipe",
    )


def gain_over(tracker: Tracker, candidate: Version, champion: Version, benchmark: str) -> Gain:
    """Return the gain on the images of a benchmark. Raises JobError when they do not compare."""
    measured(champion, benchmark)
    for fact, what in (("images", "on other photos"), ("protocol", "under another protocol")):
        ours, theirs = (each.tags.get(f"{fact}.{benchmark}") for each in (candidate, champion))
        if ours != theirs:
            raise JobError(
                f"{champion} was measured {what}; measure both again with: "
                f"laformer evaluate --model {champion}, and --model {candidate}"
            )
    return Gain.of(*(scores_of(tracker, each, benchmark) for each in (candidate, champion)))


def scores_of(tracker: Tracker, version: Version, benchmark: str) -> dict[str, float]:
    """Return the PSNR in dB of each image by key."""
    data = tracker.artifact(version.run_id, rows_file(version, benchmark))
    rows = pq.read_table(io.BytesIO(data)).to_pylist()
    return {row["key"]: row["psnr_db"] for row in rows}


def measured(version: Version, benchmark: str, of: str = "") -> float:
    """Return a score kept with a version. Raises JobError when it was never measured."""
    tag = f"{of}psnr_db.{benchmark}"
    if tag not in version.tags:
        public = f" --benchmark {benchmark} --data FOLDER" if benchmark in BENCHMARKS else ""
        raise JobError(
            f"{version} was not measured on {benchmark}; run: laformer evaluate --model "
            f"{version}{public}"
        )
    return float(version.tags[tag])


def table(candidate: Version, champion: Version | None, checks: list[Check]) -> Table:
    """Return all checks, for those who decide."""
    against = f"against {champion}" if champion else "without a champion"
    shown = Table(title=f"The gate of {candidate}, {against}")
    for column in ("check", "found", "rule", "holds"):
        shown.add_column(column, overflow="fold")
    for check in checks:
        shown.add_row(check.what, check.found, check.rule, "yes" if check.holds else "NO")
    return shown
