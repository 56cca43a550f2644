"""laformer submit: a verb runs on a cluster; its log and its exit code come back.

The id of a job is made of its verb and the name of its run, so a second submission finds the
first: one that runs is followed, one that is over gets a fresh attempt, which resumes.
"""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["submit", *sys.argv[1:]]))

import dataclasses
import hashlib
import os
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails

from jobs import cli, place
from jobs.config import SubmitJob, TrainJob
from jobs.console import say, working
from jobs.errors import JobError
from jobs.remote import reach
from jobs.remote.dashboard import Dashboard, TakenError
from jobs.remote.following import follow
from jobs.remote.package import Tree
from jobs.revision import git_revision

NAME, STORE = "laformer.name", "laformer.store"
"""Of the job's record on the cluster: the name of its run, and where that is kept."""
STOP_S = "30"
"""Seconds between asking a job to stop and ending it; Ray's own 3 cut a last checkpoint short."""
DETACHED = 130
"""Exit code after Ctrl-C."""


@dataclass(frozen=True)
class Order:
    """What a cluster is asked to run."""

    name: str
    """Its id there is this, and a number from the second attempt on."""
    command: str
    """What a shell of the cluster runs."""
    metadata: dict[str, str]
    """Kept in the job's record."""
    env: dict[str, str]
    """Variables and their values."""


def run(job: SubmitJob) -> None:
    """Submit, follow, and exit with the code of what ran."""
    order = order_of(job)
    tree = Tree.of(Path(job.tree or Path(__file__).parents[1]).resolve())
    require_packed(job.words, tree)
    if code := submit(Dashboard.connect(job.address), order, tree, follow_it=job.follow):
        raise SystemExit(code)


def order_of(job: SubmitJob) -> Order:
    """Check what shall run and return it as an order. Raises JobError when it could not run."""
    asked = cli.parse(list(job.words))
    reach.check(job.words, asked, os.environ)
    env = reach.forwarded(job.env, os.environ)
    for note in reach.notes(env):
        say(f"note: {note}")
    verb, *rest = job.words
    name = job.name or name_of(verb, asked)
    return Order(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", name),
        command=shlex.join(["python", "-m", f"jobs.{verb}", *rest]),
        metadata={NAME: name, STORE: env.get("LAFORMER_STORE", "")},
        env=env,
    )


def name_of(verb: str, asked: Any) -> str:
    """Return a name by which the same work is found again: the run's, or one of the values."""
    trained = getattr(asked, "job", asked)  # a search has the name of what it trains
    if isinstance(trained, TrainJob):
        return f"{verb}-{trained.name or trained.task}"
    if name := getattr(asked, "name", None):
        return f"{verb}-{name}"
    values = repr(dataclasses.asdict(asked))
    return f"{verb}-{hashlib.sha256(values.encode()).hexdigest()[:8]}"


def require_packed(words: tuple[str, ...], tree: Tree) -> None:
    """Raise JobError when a job file would not arrive with the tree."""
    path = words[2] if words[:2] == ("train", "--job") else ""
    if path and "://" not in path and path not in tree.files:
        raise JobError(
            f"job file {path} does not go along with {tree.root}; put it there under this name, "
            "or name the one that the run keeps in its bucket"
        )


def submit(dashboard: Dashboard, order: Order, tree: Tree, *, follow_it: bool = True) -> int:
    """Find the job or hand it in, follow it if asked to, and return its exit code."""
    last = attempts(dashboard.jobs(), order.name)[-1:]
    if last and not last[0].status.is_terminal():
        job_id = str(last[0].submission_id)
        require_same(last[0], order)
        say(f"{job_id} runs already at {dashboard.address}")
    else:
        number = attempt_of(last[0], order.name) + 1 if last else 1
        job_id = order.name if number == 1 else f"{order.name}-{number}"
        if last:
            say(f"{last[0].submission_id} is over ({last[0].status}); this is attempt {number}")
        try:
            hand_in(dashboard, job_id, order, tree)
        except TakenError:  # somebody else was faster
            require_same(dashboard.info(job_id), order)
            say(f"{job_id} was submitted a moment ago")
    return watched(dashboard, job_id) if follow_it else 0


def hand_in(dashboard: Dashboard, job_id: str, order: Order, tree: Tree) -> None:
    """Pack the tree and start the job."""
    if tree.private:
        say(f"note: not sent, by their names: {', '.join(tree.private)}")
    extra = {
        "LAFORMER_JOB": job_id,
        "LAFORMER_REVISION": git_revision(tree.root),
        "RAY_JOB_STOP_WAIT_TIME_S": STOP_S,
    }
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / "tree.zip"
        with working(f"packing {len(tree.files)} files, {tree.num_bytes / 2**20:.1f} MB"):
            tree.write(package, os.environ)
        size = f"{package.stat().st_size / 2**20:.1f} MB"
        with working(f"submitting {job_id} to {dashboard.address}, {size}"):
            dashboard.submit(
                entrypoint=order.command,
                submission_id=job_id,
                runtime_env={"working_dir": str(package), "env_vars": order.env | extra},
                metadata=order.metadata,
            )
    if order.env:
        say(f"variables sent: {', '.join(sorted(order.env))}")


def watched(dashboard: Dashboard, job_id: str) -> int:
    """Follow a job; Ctrl-C ends only that."""
    try:
        return follow(dashboard, job_id)
    except KeyboardInterrupt:
        where = f"{job_id} --address {dashboard.address}"
        say(
            f"\n{job_id} goes on; see it with: laformer jobs follow {where}\n"
            f"end it with: laformer jobs stop {where}"
        )
        return DETACHED


def attempts(jobs: list[JobDetails], name: str) -> list[JobDetails]:
    """Return the jobs of this name in the order of their numbers."""
    found = [job for job in jobs if attempt_of(job, name)]
    return sorted(found, key=lambda job: attempt_of(job, name))


def attempt_of(job: JobDetails, name: str) -> int:
    """Return the number of the attempt that a job is at a name; 0 when it is none."""
    match = re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", str(job.submission_id))
    return int(match[1] or 1) if match else 0


def require_same(job: JobDetails, order: Order) -> None:
    """Raise JobError when a job that runs is another than the one asked for."""
    metadata = job.metadata or {}
    if job.entrypoint == order.command and metadata.get(STORE, "") == order.metadata[STORE]:
        return
    there = place.without_secret(metadata.get(STORE, "")) or "the cluster's own store"
    raise JobError(
        f"{job.submission_id} runs something else ({job.entrypoint}, {there}); "
        "wait for it, stop it, or give this one another --name"
    )
