"""laformer jobs: list, show, follow or stop what was submitted to a cluster."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["jobs", *sys.argv[1:]]))

import datetime as dt
import time

from ray.job_submission import JobDetails, JobStatus

from jobs.config import JobsJob
from jobs.console import lasting, say
from jobs.errors import JobError
from jobs.remote.dashboard import Dashboard
from jobs.remote.following import exit_code
from jobs.submit import NAME, STORE, attempts, watched

STOPPING_S = 60.0
"""Longest wait for a job to end that was asked to."""
SHOWN_NAMES = 8


def run(job: JobsJob) -> None:
    """Do what is asked; following exits with the job's code."""
    dashboard = Dashboard.connect(job.address)
    if job.action == "list":
        show_all(dashboard)
        return
    found = find(dashboard, str(job.name))
    match job.action:
        case "show":
            show(found)
        case "stop":
            stop(dashboard, found)
        case _:
            if code := watched(dashboard, str(found.submission_id)):
                raise SystemExit(code)


def find(dashboard: Dashboard, name: str) -> JobDetails:
    """Return the job of this id, or the last of this name. Raises JobError naming the last ones."""
    jobs = dashboard.jobs()
    for job in jobs:
        if job.submission_id == name and not attempts(jobs, name)[1:]:
            return job
    for found in (attempts(jobs, name), [job for job in jobs if run_of(job) == name]):
        if found:
            return found[-1]
    last = ", ".join(str(job.submission_id) for job in jobs[-SHOWN_NAMES:])
    raise JobError(f"no job {name!r} at {dashboard.address}; the last are: {last or 'none'}")


def run_of(job: JobDetails) -> str:
    """Return the name of the run that a job works on, without its verb."""
    return str((job.metadata or {}).get(NAME, "")).partition("-")[2]


def show_all(dashboard: Dashboard) -> None:
    """Print a line a job, the last one at the end."""
    jobs = dashboard.jobs()
    width = max((len(str(job.submission_id)) for job in jobs), default=0)
    for job in jobs:
        say(
            f"{job.submission_id:<{width}}  {job.status.value:<9}  "
            f"{began(job)}  {took(job):>10}  {job.entrypoint}"
        )
    if not jobs:
        say(f"nothing was submitted to {dashboard.address}")


def show(job: JobDetails) -> None:
    """Print what is known of a job; of its variables the names alone."""
    environment = (job.runtime_env or {}).get("env_vars") or {}
    lines = {
        "job": job.submission_id,
        "status": job.status.value,
        "command": job.entrypoint,
        "began": f"{began(job)}, {took(job)}",
        "exit code": exit_code(job) if job.status.is_terminal() else None,
        "store": (job.metadata or {}).get(STORE),
        "variables": ", ".join(sorted(environment)),
        "package": (job.runtime_env or {}).get("working_dir"),
        "message": (job.message or "").strip() if job.status == JobStatus.FAILED else None,
    }
    for name, value in lines.items():
        if value not in (None, ""):
            say(f"{name:<10} {value}")


def stop(dashboard: Dashboard, job: JobDetails) -> None:
    """Ask a job to end and wait until it has. Raises JobError when it does not."""
    job_id = str(job.submission_id)
    if job.status.is_terminal():
        say(f"{job_id} is over already ({job.status.value})")
        return
    dashboard.stop(job_id)
    deadline = time.monotonic() + STOPPING_S
    while not (now := dashboard.info(job_id)).status.is_terminal():
        if time.monotonic() > deadline:
            raise JobError(f"{job_id} did not end within {STOPPING_S:.0f} s; try again")
        time.sleep(0.5)
    say(f"{job_id}: {now.status.value.lower()}; the same submission continues it")


def began(job: JobDetails) -> str:
    """Return when a job was submitted, in local time."""
    moment = dt.datetime.fromtimestamp((job.start_time or 0) / 1000, tz=dt.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")


def took(job: JobDetails) -> str:
    """Return for how long a job has run, or ran."""
    end_s = (job.end_time or time.time() * 1000) / 1000
    return lasting(max(0.0, end_s - (job.start_time or 0) / 1000))
