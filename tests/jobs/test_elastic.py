"""Workers that come and go share every batch evenly."""

import dataclasses

import pytest
from ray.train import ScalingConfig

from jobs import cli, elastic, recipes
from jobs.errors import JobError


@pytest.mark.parametrize(
    ("least", "most", "batch", "allowed"),
    [(1, 4, 4, (1, 2, 4)), (2, 8, 32, (2, 4, 8)), (3, 3, 6, (3,)), (3, 7, 12, (3, 4, 6))],
)
def test_only_numbers_that_divide_the_batch_are_allowed(least, most, batch, allowed):
    assert elastic.sizes(least, most, batch) == allowed


def test_a_range_without_such_a_number_is_refused():
    with pytest.raises(JobError, match="no number of 5 to 7 workers divides 4,"):
        elastic.sizes(5, 7, 4)


@pytest.mark.parametrize(
    ("hosts", "started"),
    [([4], 2), ([2, 1], 2), ([3, 2], 4), ([2], 1), ([1], 0), ([], 0), ([16], 4)],
)
def test_as_many_workers_start_as_there_is_room_for_and_the_batch_allows(
    hosts, started, monkeypatch
):
    monkeypatch.setattr(elastic, "num_cpus", lambda: sum(hosts))
    config = ScalingConfig(num_workers=(1, 4), resources_per_worker={"CPU": 1})
    policy = elastic.DividingPolicy(config, (1, 2, 4))
    reserved = {f"host {i}": {"CPU": float(cpus)} for i, cpus in enumerate(hosts)}
    # One core is left to the stream.
    assert policy._count_possible_workers(reserved) == started


def test_the_trainer_has_the_policy_only_when_workers_come_and_go(monkeypatch):
    seen = []
    monkeypatch.setattr(
        elastic.TorchTrainer,
        "_initialize_and_run_controller",
        lambda _self, **options: seen.append(options["scaling_policy"]),
    )
    for workers, allowed in ((2, (2,)), ((1, 4), (1, 2, 4))):
        trainer = elastic.ElasticTrainer(
            print, allowed=allowed, scaling_config=ScalingConfig(num_workers=workers)
        )
        trainer._initialize_and_run_controller(scaling_policy="Ray's")
    assert seen[0] == "Ray's"
    assert seen[1].allowed == (1, 2, 4)


def test_a_range_of_workers_is_two_numbers_and_survives_the_job_file():
    job = cli.parse(["train", "demo", "--workers", "1", "4"])
    assert job.workers == (1, 4)
    assert recipes.from_json(recipes.to_json(job)) == job
    assert cli.parse(["train", "demo", "--workers", "2"]).workers == 2
    with pytest.raises(ValueError, match="workers 4 to 1 is no range"):
        dataclasses.replace(job, workers=(4, 1))
