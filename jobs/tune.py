"""laformer tune: a recipe and a search space in, the best job out. The same command continues."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["tune", *sys.argv[1:]]))

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ray
from ray import tune

from jobs import environment, place, train
from jobs.cluster import Cluster, connected
from jobs.config import TuneJob
from jobs.console import say, working
from jobs.errors import JobError, UnavailableError
from jobs.revision import git_revision
from jobs.search import budget, halving, steering
from jobs.search.findings import Findings
from jobs.search.halving import Rungs
from jobs.search.journal import Journal, Record
from jobs.search.outcome import conclude, documents, gathered, told
from jobs.search.plan import Plan, experiment, proposer, trial_folder, workers
from jobs.search.run_trials import RunTrial, SharedRun
from jobs.search.runs import SearchRuns, is_concluded
from jobs.search.samples import Shared as SharedBlocks
from jobs.search.search import Search
from jobs.search.spaces import Values
from jobs.search.steering import Asking, Deciding, Population, Telling
from jobs.search.trials import Shared, SmallTrial
from jobs.tracking import Tracker
from jobs.training import inputs
from jobs.training.held_out import validation
from jobs.training.runs import flatten
from jobs.training.stopping import stoppable
from laformer.loop import rgb_psnr_db
from pipelines import storage, tasks

TUNE_FOLDER = "ray"
LOST_AGAIN = 2
"""How often a trial is begun again whose process was lost."""


def run(job: TuneJob) -> Findings:
    """Search until all trials are over or the time is; write what was found."""
    plan = Plan.of(job)
    journal = Journal(plan.name)
    task = tasks.find(job.job.task)
    inputs.check_model(job.job, task)
    if job.report:
        return conclude(plan, prepared(plan, journal))
    stream = inputs.samples(plan.base, inputs.manifest_uris(plan.base), task)
    journal.open(plan.facts | {"manifest": stream.digest})
    search = prepared(plan, journal)
    if not done(search):
        runs = tracked(plan, search, stream.digest)
        with connected() as cluster, closing(plan, search, runs):
            uris = inputs.manifest_uris(plan.base)
            cluster.require_shared(place.store(), *uris, runs.tracker.uri)
            with suppress(UnavailableError):  # it was there a moment ago: the search goes on
                runs.tracker.describe(runs.parent, {environment.DEVICES: environment.devices()})
            begin(plan, search, cluster, runs.parent)
    elif not is_concluded(journal, len(search.records)):
        # The search came to its end while MLflow was away.
        close(plan, search, tracked(plan, search, stream.digest), failed=False)
    found = conclude(plan, search)
    if job.train_best:
        train.run(found.best)
    return found


def tracked(plan: Plan, search: Search, digest: str) -> SearchRuns:
    """Begin the runs of a search in MLflow; each trial is recorded when it is over."""
    facts = {"manifest_sha256": digest, "git_revision": git_revision()}

    def params(values: Values) -> dict[str, str]:
        try:
            job = plan.space.apply(plan.base, values)
        except ValueError:
            return {name: str(value) for name, value in values.items()} | facts
        return flatten(dataclasses.asdict(job)) | facts

    runs = SearchRuns(
        tracker=Tracker(),
        journal=search.journal,
        experiment=experiment(plan),
        params=params,
        folder=partial(trial_folder, plan),
    )
    with working(f"opening {plan.name} in MLflow at {place.without_secret(runs.tracker.uri)}"):
        runs.open()
        uris = inputs.manifest_uris(plan.base)
        runs.tracker.trained_on(runs.parent, dict(zip(uris, digest.split("+"), strict=True)))
        said = environment.versions() | {environment.COMMIT: facts["git_revision"]}
        runs.tracker.describe(runs.parent, said)

    def keep(record: Record) -> None:
        say(told(search, record))
        runs.keep(record, record.last_values)

    search.over = keep
    return runs


def prepared(plan: Plan, journal: Journal) -> Search:
    """Return the search as earlier calls left it."""
    job = plan.job
    search = Search(
        journal=journal,
        space=plan.space,
        proposer=proposer(plan),
        rungs=Rungs(halving.rungs(plan.base.train.steps) if job.ending == "asha" else ()),
        trials=job.trials,
        last_step=plan.base.train.steps,
        stall=job.stall,
        devices=int(workers(job)),
        first=plan.space.of(plan.base),
    )
    search.resume()
    if search.records or search.waiting:
        say(
            f"continuing {plan.name}: {len(search.records)} trials are over, "
            f"{len(search.waiting)} begin again"
        )
    return search


def done(search: Search) -> bool:
    """Return whether there is no trial left."""
    return not search.waiting and (len(search.records) >= search.trials or search.stalled)


def begin(plan: Plan, search: Search, cluster: Cluster, parent: str) -> None:
    """Run the trials that are left."""
    job = plan.job
    left = search.trials - len(search.records)
    num_cpus = int(ray.cluster_resources().get("CPU", 1))
    room = budget.slots(budget.Ask(workers(job), job.concurrent, left), cluster, num_cpus)
    say(f"{plan.name}: {left} trials of up to {search.last_step} steps; {room.arithmetic}")
    if job.ending == "pbt" and workers(job) > 1 and left > room.concurrent:
        raise JobError(
            f"a population of runs trains all its {left} trials at the same time, but "
            f"{room.arithmetic}; use --trials {room.concurrent}, or --workers 1"
        )
    steering.quiet()
    clear(search.journal)  # what a killed call left
    tuner = tune.Tuner(
        trainable(plan, cluster, room, parent),
        **steered(plan, search, room, left),
        run_config=tune.RunConfig(
            name=TUNE_FOLDER,
            storage_path=search.journal.folder,
            callbacks=[Telling(search)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=LOST_AGAIN),
            verbose=0,
        ),
    )
    with stoppable():
        tuner.fit()
    clear(search.journal)


def steered(plan: Plan, search: Search, room: budget.Slots, left: int) -> dict[str, Any]:
    """Return who chooses values and ends trials, and how many run at a time."""
    job, reuse = plan.job, workers(plan.job) == 1
    budget_s = None if job.hours is None else 3600 * job.hours
    if job.ending != "pbt":
        config = tune.TuneConfig(
            num_samples=left,
            search_alg=Asking(search, room.concurrent),
            scheduler=Deciding(search),
            time_budget_s=budget_s,
            reuse_actors=reuse,
        )
        return {"tune_config": config}
    # All members begin; the CPUs that each takes say how many run at a time.
    members = [record.number for record in iter(search.next, None)]
    scheduler = Population(search, plan.milestones[0], job.search_seed)
    config = tune.TuneConfig(scheduler=scheduler, time_budget_s=budget_s, reuse_actors=reuse)
    return {"tune_config": config, "param_space": {"number": tune.grid_search(members)}}


def clear(journal: Journal) -> None:
    """Remove what Tune keeps for itself: a search continues from the journal."""
    folder = storage.join(journal.folder, TUNE_FOLDER)
    if not storage.exists(folder):
        return
    if not storage.is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for entry in storage.list_entries(folder, ("",)):
        storage.delete(storage.join(folder, entry.key))


def trainable(plan: Plan, cluster: Cluster, room: budget.Slots, parent: str) -> Any:
    """Return what Tune runs as a trial."""
    if workers(plan.job) > 1:
        runs = SharedRun(
            plan=plan,
            cluster=cluster,
            parent=parent,
            held_out=validation(plan.base),
            place={"LAFORMER_STORE": place.store(), "MLFLOW_TRACKING_URI": place.tracking_uri()},
        )
        return tune.with_resources(tune.with_parameters(RunTrial, shared=runs), {"CPU": room.cpus})
    fields = validation(plan.base)
    shared = Shared(
        base=plan.base,
        space=plan.space,
        milestones=plan.milestones,
        objectives=plan.job.objectives,
        blocks=SharedBlocks.start(cluster.store_bytes // 2),
        validation=fields["validation"],
        judge=fields.get("judge", rgb_psnr_db),
        threads=cluster.threads(room.concurrent),
        concurrent=room.concurrent,
    )
    return tune.with_resources(
        tune.with_parameters(SmallTrial, shared=shared), {"CPU": room.cpus, "GPU": room.gpus}
    )


@contextmanager
def closing(plan: Plan, search: Search, runs: SearchRuns) -> Iterator[None]:
    """Close the runs in MLflow; write what was found until then when the body is interrupted."""
    failed = True
    try:
        yield
        failed = False
    except KeyboardInterrupt:
        over = [record for record in search.records.values() if record.status != "running"]
        say(f"{len(over)} of {search.trials} trials are over, kept in {search.journal.folder}")
        if search.best is not None:
            conclude(plan, search)
        raise
    finally:
        close(plan, search, runs, failed=failed)


def close(plan: Plan, search: Search, runs: SearchRuns, *, failed: bool) -> None:
    """Record in MLflow what was found."""
    found = gathered(plan, search)
    runs.close(found, documents(search, found), failed=failed)
