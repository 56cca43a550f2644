"""How a run ends: at its last step or before, and what comes out of it."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import recipes
from jobs.checkpoints import StoredShelf
from jobs.config import TrainJob
from jobs.console import say, working
from jobs.errors import JobError, UnavailableError
from jobs.tracking import Tracker
from jobs.training.runs import JOB_FILE, shelf_of
from jobs.versions import seeds
from jobs.versions.registry import Registry, Version
from laformer import checkpoint
from laformer.errors import CheckpointError
from laformer.patience import ENDED_EARLY, Record


@dataclass(frozen=True)
class Trained:
    """What a training run left behind."""

    version: Version
    """What was registered."""
    run_id: str
    """The tracking run."""
    facts: dict[str, Any]
    """What the released checkpoint says of itself."""


def finished(job: TrainJob) -> int | None:
    """Return the last step of an earlier call that reached it, or its patience's end."""
    shelf = shelf_of(job)
    for step in shelf.complete()[:1]:
        if step == job.train.steps or ended_early(job, step, Record.of(shelf.facts(step))):
            return step
    return None


def ended_early(job: TrainJob, step: int, record: Record) -> bool:
    """Return whether the run ended with this checkpoint for lack of anything better."""
    return step < job.train.steps and record.exhausts(job.train.patience)


def record_early(job: TrainJob, tracker: Tracker, run_id: str) -> None:
    """Say and record it when the run ended before its last step."""
    shelf = shelf_of(job)
    for step in shelf.complete()[:1]:
        record = Record.of(shelf.facts(step))
        if ended_early(job, step, record):
            say(
                f"stopped at step {step} of {job.train.steps}: no held-out PSNR above the "
                f"{record.psnr_db:.2f} dB of step {record.step} in {record.since} validations"
            )
            tracker.metrics(run_id, {ENDED_EARLY: float(record.since)}, step)


def best(shelf: StoredShelf, scratch: Path) -> Path:
    """Return a folder with the good checkpoint of the highest held-out PSNR."""
    for step in shelf.best_first():
        with shelf.opened(step) as folder:
            try:
                checkpoint.release(folder, scratch / f"step_{step}")
            except CheckpointError as error:
                say(f"warning: the checkpoint of step {step} is not registered: {error}")
            else:
                return scratch / f"step_{step}"
    raise JobError(f"the run at {shelf.uri} has no good checkpoint; delete it and train again")


def release(job: TrainJob, run_id: str) -> Trained:
    """Verify the best checkpoint, strip it to what restoring needs and register it."""
    with tempfile.TemporaryDirectory() as scratch, working("registering the best checkpoint"):
        released = best(shelf_of(job), Path(scratch))
        facts = checkpoint.read_facts(released)
        sums = json.loads((released / checkpoint.SUMS).read_text())
        tags = {
            "task": job.task,
            "step": str(facts["step"]),
            "sha256": sums[checkpoint.MODEL],
            "manifest_sha256": facts["samples"]["manifest"],
            "git_revision": facts["git_revision"],
        } | seeds.tags(job, facts)
        if facts.get("init"):
            tags["init"] = facts["init"]["model"]
        (released / JOB_FILE).write_text(recipes.to_json(job))
        registry = Registry()
        try:
            version = registry.register(f"laformer-{job.task}", released, run_id, tags)
            if job.candidate:
                registry.nominate(version)
        except UnavailableError as error:
            raise JobError(
                f"the run is at its end, but not registered: {error}; the same command again "
                "registers it"
            ) from error
    return Trained(version, run_id, facts)


def tell_replaced(tracker: Tracker, run_id: str) -> None:
    """Say how many samples came from other photos than planned, if any."""
    counts = [int(count) for _, count in tracker.history(run_id, "replaced_samples")]
    if counts and counts[-1]:
        say(
            f"{counts[-1]} samples were cut from other photos because theirs could not be read; "
            "run laformer prepare again to find out which"
        )
