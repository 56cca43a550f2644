"""laformer promote: the gate between a candidate and the alias that batch jobs use."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["promote", *sys.argv[1:]]))

import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobs.config import EvaluateJob, PromoteJob
from jobs.console import CONSOLE, say, working
from jobs.errors import JobError
from jobs.evaluation.contender import task_of
from jobs.evaluation.subjects import CAPTURED, HELD_OUT, subject
from jobs.tracking import Tracker
from jobs.versions import seeds
from jobs.versions.gate import Check, Least, score_checks, table
from jobs.versions.inspection import Photos, picture_checks, time_checks
from jobs.versions.registry import CANDIDATE, CHAMPION, ROLLED_BACK, Registry, Version
from jobs.versions.seeds import Spread
from laformer.restore import Restorer


def run(job: PromoteJob) -> Version:
    """Make the candidate the champion if every check holds; return the champion.

    It beats its input and the champion on each benchmark, under its protocol; its numbers are
    finite, its colours stay, and it is as fast as is asked for. Raises JobError after the table of
    all checks when one does not hold.
    """
    registry = Registry()
    if job.rollback:
        return roll_back(registry, job.name)
    candidate = registry.resolve(f"{job.name}@{CANDIDATE}")
    champion = registry.alias(job.name, CHAMPION)
    if champion is not None and champion.number == candidate.number:
        say(f"{candidate} is the champion already")
        return candidate
    checks = list(all_checks(job, registry, candidate, champion))
    CONSOLE.print(table(candidate, champion, checks))
    failed = [check for check in checks if not check.holds]
    if failed:
        raise JobError(
            f"{candidate} is not promoted, {len(failed)} of {len(checks)} checks do not hold: "
            + "; ".join(map(str, failed))
        )
    registry.promote(candidate)
    say(f"{candidate} is the champion of {job.name}")
    return candidate


def roll_back(registry: Registry, name: str) -> Version:
    """Return to the previous champion; the same again changes nothing."""
    before, champion = registry.roll_back(name)
    if before.number == champion.number:
        say(f"{champion} is the champion already: it was returned to before")
    else:
        say(f"{champion} is the champion of {name} again, instead of {before}")
    return champion


def all_checks(
    job: PromoteJob, registry: Registry, candidate: Version, champion: Version | None
) -> Iterator[Check]:
    """Yield every check of the gate, whether it holds or not."""
    if candidate.tags.get(ROLLED_BACK) == "true" and not job.again:
        yield Check(
            what="history",
            found=f"{candidate} was champion and was rolled back",
            rule="never rolled back",
            holds=False,
            act="train another, or insist with --again",
        )
    names = job.benchmark or (HELD_OUT,)
    asked = EvaluateJob(model=str(candidate), data=job.data, manifest=job.manifest)
    subjects = [subject(name, asked, candidate) for name in names]  # refuses unknown ones
    for name in names:
        benchmark = gate_of(candidate) if name == HELD_OUT else name
        spread = spread_of(job, registry, candidate, champion, benchmark)
        least = Least(job.min_gain_db, spread)
        yield from score_checks(Tracker(), candidate, champion, benchmark, least)
    with tempfile.TemporaryDirectory() as scratch, working(f"looking at what {candidate} restores"):
        ours = load(registry, candidate, scratch)
        name = candidate.tags["task"]
        yield from picture_checks(ours, name, Photos.of(subjects[0]), job.max_colour_shift)
        timed = job.max_ms_per_megapixel is not None or job.max_slowdown is not None
        theirs = load(registry, champion, scratch) if champion and timed else None
        yield from time_checks(
            ours, theirs, most_ms=job.max_ms_per_megapixel, most_times=job.max_slowdown
        )


def spread_of(
    job: PromoteJob,
    registry: Registry,
    candidate: Version,
    champion: Version | None,
    benchmark: str,
) -> Spread | None:
    """Return the spread of seeds that was stated, or else measured, or None."""
    if job.seed_spread_db is not None:
        return Spread(job.seed_spread_db, "stated")
    if champion is None:
        return None
    known = [listed.version for listed in registry.versions(candidate.name)]
    return seeds.spread(known, candidate, champion, benchmark)


def gate_of(candidate: Version) -> str:
    """Return the benchmark that judges: captured pairs, where it was measured on such."""
    made = task_of(candidate).gate.name
    captured = f"{made}{CAPTURED}"
    return captured if f"psnr_db.{captured}" in candidate.tags else made


def load(registry: Registry, version: Version, scratch: str) -> Restorer:
    """Return the network of a version, ready to restore."""
    folder = Path(scratch) / str(version.number)
    folder.mkdir()
    return Restorer.load(registry.download(version, folder))
