"""laformer promote: the gate between a candidate and the alias that batch jobs use."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["promote", *sys.argv[1:]]))

from jobs.config import PromoteJob
from jobs.console import say
from jobs.errors import JobError
from jobs.evaluate import CAPTURED, task_of
from jobs.registry import CANDIDATE, CHAMPION, Registry, Version


def run(job: PromoteJob) -> Version:
    """Make the candidate the champion if it beats the degraded input and the present champion.

    Both are compared on the held-out photos under the same protocol. Raises JobError with the
    numbers when it does not.
    """
    registry = Registry()
    candidate = registry.resolve(f"{job.name}@{CANDIDATE}")
    champion = registry.alias(job.name, CHAMPION)
    if champion is not None and champion.number == candidate.number:
        say(f"{candidate} is the champion already")
        return candidate
    judge(candidate, champion, gate_of(candidate))
    registry.promote(candidate)
    say(f"{candidate} is the champion of {job.name}")
    return candidate


def gate_of(candidate: Version) -> str:
    """Return the benchmark that judges: captured pairs, where it was measured on such."""
    made = task_of(candidate).gate.name
    captured = f"{made}{CAPTURED}"
    return captured if f"psnr_db.{captured}" in candidate.tags else made


def judge(candidate: Version, champion: Version | None, benchmark: str) -> None:
    """Raise JobError unless the candidate beats its input and the champion on a benchmark."""
    psnr_db, input_db = measured(candidate, benchmark), measured(candidate, benchmark, "input_")
    if psnr_db <= input_db:
        raise JobError(
            f"{candidate} has {psnr_db:.2f} dB on {benchmark}, its degraded input {input_db:.2f}: "
            "not promoted; train longer"
        )
    if champion is None:
        return
    best_db = measured(champion, benchmark)
    if champion.tags[f"images.{benchmark}"] != candidate.tags[f"images.{benchmark}"]:
        raise JobError(
            f"{candidate} and the champion {champion} were measured on other photos; "
            f"measure the champion again with: laformer evaluate --model {champion}"
        )
    if psnr_db <= best_db:
        raise JobError(
            f"{candidate} has {psnr_db:.2f} dB on {benchmark}, the champion {champion} "
            f"{best_db:.2f}: not promoted"
        )


def measured(version: Version, benchmark: str, of: str = "") -> float:
    """Return a score kept with a version. Raises JobError when it was never measured."""
    tag = f"{of}psnr_db.{benchmark}"
    if tag not in version.tags:
        raise JobError(
            f"{version} was not measured on {benchmark}; run: laformer evaluate --model {version}"
        )
    return float(version.tags[tag])
