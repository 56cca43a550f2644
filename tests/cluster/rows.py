"""The faults of the table, one entry a row, read top to bottom.

Each takes place in the middle of a job, and says how the job ended and what it left. Those of
training are compared, to the byte, with a run that nothing disturbed.
"""

import itertools
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.cluster.harm import (
    NotHereError,
    actor_is_killed,
    bucket_is_full,
    clock_is_ahead,
    disk_is_full,
    driver_is_killed,
    head_is_killed,
    host_gives_notice,
    host_is_killed,
    link_is_cut,
    plan,
    storage_is_killed,
    tracking_is_away,
    worker_is_killed,
)
from tests.cluster.proxy import READS, WRITES
from tests.cluster.work import EVERY, LIMIT_S, STEPS, Tally


@dataclass(frozen=True)
class Row:
    """A fault, and the job that meets it."""

    words: str
    """What happens."""
    job: str
    """train or restore."""
    harm: Callable
    """Does it, given the work, the command and the name of the job."""
    before: bool = False
    """Whether it is there from the start of the job on."""
    stops: bool = False
    """Whether the job must end, and is started again when the fault is over."""
    moment: float = 0.2
    """How far the job is when it happens, of all its steps or photos."""


@dataclass
class Outcome:
    """What was seen."""

    verdict: str
    """finished, or stopped with what was said, or failed."""
    samples: Tally = field(default_factory=Tally)
    images: Tally = field(default_factory=Tally)
    checkpoints: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    stalled_s: float | None = None
    """Longest time without a step of any worker after the fault."""
    harmed: str = ""
    """Requests that the proxy harmed, of all."""
    ok: bool = True
    ran: bool = True

    @property
    def tallies(self):
        return self.samples, self.images, self.checkpoints


ROWS = {
    "worker-killed": Row("SIGKILL of a training worker", "train", worker_is_killed),
    "actor-killed": Row("SIGKILL of a Data actor", "restore", actor_is_killed),
    "driver-killed": Row("SIGKILL of the driver", "train", driver_is_killed, stops=True),
    "restore-driver-killed": Row("SIGKILL of the driver", "restore", driver_is_killed, stops=True),
    "host-killed": Row("a worker host loses its power", "train", host_is_killed),
    "restore-host-killed": Row("a worker host loses its power", "restore", host_is_killed),
    "link-cut-5s": Row("a worker host has no link for 5 s", "train", partial(link_is_cut, 5)),
    "link-cut": Row("a worker host has no link any more", "train", partial(link_is_cut, None)),
    "drain": Row("a worker host gives 30 s of notice", "train", host_gives_notice),
    "head-killed": Row("the head loses its power", "train", head_is_killed, stops=True),
    "storage-killed": Row("SIGKILL of the whole store for 8 s", "train", storage_is_killed),
    "503-1": Row("1 % of requests get a 503", "restore", plan("503", 0.01), before=True),
    "503-10": Row("10 % of requests get a 503", "restore", plan("503", 0.1), before=True),
    "503-50": Row("50 % of requests get a 503", "restore", plan("503", 0.5), before=True),
    "train-503-10": Row("10 % of requests get a 503", "train", plan("503", 0.1), before=True),
    "reset": Row(
        "10 % of connections break in the body", "restore", plan("reset", 0.1), before=True
    ),
    "hang": Row("2 % of requests get no answer", "restore", plan("hang", 0.02), before=True),
    "short": Row(
        "10 % of bodies end early, and say they do not",
        "restore",
        plan("short", 0.1, READS, key=".png"),
        before=True,
    ),
    "flipped-reads": Row(
        "10 % of what is read has a wrong bit",
        "restore",
        plan("flip", 0.1, READS, key=".png"),
        before=True,
    ),
    "flipped-writes": Row(
        "10 % of what is written has a wrong bit",
        "restore",
        plan("flip", 0.1, WRITES, key=".png"),
        before=True,
    ),
    "expired": Row("the credentials expire", "restore", plan("expired", 1.0), stops=True),
    "full-bucket": Row("the bucket's quota is used up", "train", bucket_is_full, stops=True),
    "full-disk": Row("the disk of a worker host is full", "train", disk_is_full),
    "tracking-away": Row("the host of MLflow is away for 10 s", "train", tracking_is_away),
    "clock-skew": Row("a worker's clock is an hour ahead", "restore", clock_is_ahead, before=True),
}


def run(work, row, name):
    """Let one row happen to a job of that name; the cluster is whole again afterwards."""
    began = time.monotonic()
    work.cluster.proxy.forget()
    try:
        outcome = {"train": trained, "restore": restored}[row.job](work, row, name)
    except NotHereError as error:
        outcome = Outcome(f"not run: {error}", ran=False)
    except Exception as error:  # noqa: BLE001 - a row that breaks is a row of the table
        outcome = Outcome(f"FAILED: {' '.join(str(error).split())[:300]}", ok=False)
    finally:
        work.cluster.proxy.heal()
        work.close()
    outcome.seconds = time.monotonic() - began
    work.cluster.restore_hosts()
    return outcome


def trained(work, row, name):
    """Train with the fault in the middle; reconcile samples and checkpoints."""
    if row.before:
        row.harm(work, None, name)
    command = work.train(name)
    if not row.before:
        work.reaches(command, name, max(EVERY + 4, int(row.moment * STEPS)))
        harmed_s = time.time()
        row.harm(work, command, name)
    outcome = concluded(work, row, command, partial(work.train, name))
    outcome.samples, outcome.checkpoints = work.samples(name), work.checkpoints(name)
    if not row.before and not row.stops:
        outcome.stalled_s = stalled(work.record(name), harmed_s)
    return judged(outcome)


def restored(work, row, name):
    """Restore with the fault in the middle; reconcile the photos."""
    if row.before:
        row.harm(work, None, name)
    command = work.restore(name)
    if not row.before:
        work.restored(command, name, int(row.moment * work.num_photos))
        row.harm(work, command, name)
    outcome = concluded(work, row, command, partial(work.restore, name))
    outcome.images = work.photos(name)
    return judged(outcome)


def concluded(work, row, command, again):
    """Wait for the end of a job; of one that stops, mend the fault and start it once more."""
    proxy = work.cluster.proxy
    code = command.ended(LIMIT_S)
    harmed = (
        f"{sum(proxy.harmed.values())} of {sum(proxy.requests.values())}" if proxy.harmed else ""
    )
    if code == 0:
        verdict = "finished"
        if row.stops:
            verdict = "finished, although it was to stop"
        return Outcome(verdict, harmed=harmed, ok=not row.stops)
    told = next((line for line in reversed(command.lines) if line.strip()), "")
    killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
    said = "by the kill" if killed else f"with: {told}"
    proxy.heal()
    work.cluster.restore_hosts()
    second = again()
    code = second.ended(LIMIT_S)
    ending = "the same command finished it" if code == 0 else f"again it ended with {code}"
    return Outcome(f"stopped {said}; {ending}", harmed=harmed, ok=row.stops and code == 0)


def judged(outcome):
    outcome.ok = outcome.ok and all(tally.is_clean for tally in outcome.tallies)
    return outcome


def stalled(record, since_s):
    """Return the longest pause between two steps, from shortly before a moment on."""
    times = [line.at_s for line in record if line.at_s > since_s - 2]
    return max((b - a for a, b in itertools.pairwise(times)), default=0.0)
