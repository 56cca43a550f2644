"""Following a job that runs elsewhere: its log through outages, and its exit code."""

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass

from ray.job_submission import JobDetails, JobStatus

from jobs.console import lasting, say
from jobs.dashboard import Dashboard, UnknownJobError, UnreachableError
from jobs.errors import JobError

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

    async def read(self) -> None:
        """Show what is new until the log ends. Raises UnreachableError when it broke off."""
        passed = 0
        log = self.dashboard.log(self.job_id)
        try:
            while True:
                text = await asyncio.wait_for(anext(log), IDLE_S)
                new = text[max(0, self.shown - passed) :]
                passed += len(text)
                self.shown = max(self.shown, passed)
                sys.stdout.write(new)
                sys.stdout.flush()
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UnreachableError("nothing was heard of the job") from error
        finally:
            with contextlib.suppress(JobError, RuntimeError):
                await log.aclose()


def follow(dashboard: Dashboard, job_id: str) -> int:
    """Show the log of a job until it is over; return its exit code.

    Raises JobError when nothing answers for OUTAGE_S, or when the cluster has forgotten the job.
    """
    reader = Reader(dashboard, job_id)
    silent_since: float | None = None
    pause_s, broken = 1.0, 0
    while True:
        whole = True
        try:
            try:
                asyncio.run(reader.read())
            except UnreachableError:
                whole, broken = False, broken + 1
            job = dashboard.info(job_id)
        except UnknownJobError as error:
            raise JobError(
                f"the cluster no longer knows {job_id}: its head was started anew; "
                "submit it again to continue"
            ) from error
        except UnreachableError as error:
            silent_since = silent_since or time.monotonic()
            if time.monotonic() - silent_since > OUTAGE_S:
                raise JobError(
                    f"{error}; {job_id} may go on, see: laformer jobs follow {job_id}"
                ) from error
            if pause_s == 1.0:
                say(f"note: {dashboard.address} does not answer; trying again")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            continue
        if silent_since is not None:
            say(f"note: {dashboard.address} answers again")
            silent_since, pause_s = None, 1.0
        if job.status.is_terminal():
            if whole or broken >= READS_OF_THE_END:
                return told(job)
        else:
            broken = 0
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
