"""Following a job that runs elsewhere: its log through outages, and its exit code."""

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus

from jobs.console import lasting, say
from jobs.errors import JobError
from jobs.remote.dashboard import Dashboard, UnknownJobError, UnreachableError

STOPPED = 130
"""Exit code of a job that was told to stop, as of one that got Ctrl-C."""
OUTAGE_S = 600.0
"""Longest time without an answer before following ends."""
IDLE_S = 60.0
"""A connection that said nothing for so long is made anew: it may have no other end."""
MAX_PAUSE_S = 15.0
READS_OF_THE_END = 3
"""Attempts at the log of a job that is over; it is lost when its host is gone."""


@dataclass
class Reader:
    """Shows a log once, however often it is read from its beginning."""

    dashboard: Dashboard
    job_id: str
    shown: int = 0
    """Characters."""
    broken: int = 0
    """Connections in a row that ended before the log did."""

    def read_on(self) -> bool:
        """Show what is new until the log ends; return False when the connection broke before."""
        try:
            asyncio.run(self._read())
        except UnreachableError:
            self.broken += 1
            return False
        self.broken = 0
        return True

    async def _read(self) -> None:
        passed = 0
        log = self.dashboard.log(self.job_id)
        try:
            while True:
                text = await asyncio.wait_for(anext(log), IDLE_S)
                sys.stdout.write(text[max(0, self.shown - passed) :])
                sys.stdout.flush()
                passed += len(text)
                self.shown = max(self.shown, passed)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UnreachableError("nothing was heard of the job") from error
        finally:
            with contextlib.suppress(JobError, RuntimeError):
                await log.aclose()


@dataclass
class Outage:
    """How long a cluster has not answered."""

    address: str
    since_s: float | None = None
    pause_s: float = 1.0

    def wait(self, error: JobError) -> None:
        """Pause before the next attempt; raise the error when it was tried for too long."""
        if self.since_s is None:
            self.since_s = time.monotonic()
            say(f"note: {self.address} does not answer; trying again")
        if time.monotonic() - self.since_s > OUTAGE_S:
            raise error
        time.sleep(self.pause_s)
        self.pause_s = min(2 * self.pause_s, MAX_PAUSE_S)

    def over(self) -> None:
        """Take note of an answer."""
        if self.since_s is not None:
            say(f"note: {self.address} answers again")
            self.since_s, self.pause_s = None, 1.0


def follow(dashboard: Dashboard, job_id: str) -> int:
    """Show the log of a job until it is over; return its exit code.

    Raises JobError when nothing answers for OUTAGE_S, or when the cluster has forgotten the job.
    """
    reader, outage = Reader(dashboard, job_id), Outage(dashboard.address)
    while True:
        whole = reader.read_on()
        try:
            job = dashboard.info(job_id)
        except UnknownJobError as error:
            raise JobError(
                f"the cluster no longer knows {job_id}: its head was started anew; "
                "submit it again to continue"
            ) from error
        except UnreachableError as error:
            where = f"laformer jobs follow {job_id} --address {dashboard.address}"
            outage.wait(JobError(f"{error}; {job_id} may go on, see: {where}"))
            continue
        outage.over()
        if not job.status.is_terminal():
            reader.broken = 0
        elif whole or reader.broken >= READS_OF_THE_END:
            return told(job)
        time.sleep(1.0)


def told(job: JobDetails) -> int:
    """Say how a job ended; return its exit code."""
    code = exit_code(job)
    took = lasting(((job.end_time or 0) - (job.start_time or 0)) / 1000) if job.end_time else "?"
    end = {0: "done", STOPPED: "stopped"}.get(code, f"failed with exit code {code}")
    say(f"{job.submission_id}: {end}, after {took}")
    if job.status == JobStatus.FAILED and job.driver_exit_code is None:
        say(f"the cluster says: {(job.message or 'nothing').strip()}")
    return code


def exit_code(job: JobDetails) -> int:
    """Return the exit code of a job that is over, as a shell would give it."""
    if job.status == JobStatus.STOPPED:
        return STOPPED
    if job.status == JobStatus.SUCCEEDED:
        return 0
    code = job.driver_exit_code
    if not code:
        return 1
    return int(code) if code > 0 else 128 - int(code)
