"""Workers that come and go share every batch evenly."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
)

from jobs import cli, recipes
from jobs.errors import JobError
from jobs.training import elastic
from jobs.training.notices import Wall
from laformer.listening import SAVE, STOP
from pipelines.errors import OutageError

SCALING = ScalingConfig(num_workers=(1, 4), resources_per_worker={"CPU": 1})


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
    monkeypatch.setattr(elastic, "leaving_hosts", lambda: {"leaving"})
    policy = elastic.DividingPolicy(SCALING, (1, 2, 4), list, print, print)
    reserved = {f"host {i}": {"CPU": float(cpus)} for i, cpus in enumerate(hosts)}
    reserved["leaving"] = {"CPU": 16.0}
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
            print,
            policy=partial(
                elastic.DividingPolicy, allowed=allowed, stored=list, want=print, explain=print
            ),
            scaling_config=ScalingConfig(num_workers=workers),
        )
        trainer._initialize_and_run_controller(scaling_policy="Ray's")
    assert seen[0] == "Ray's"
    assert seen[1].allowed == (1, 2, 4)


class Running:
    """A policy beside workers that run, and what it decides."""

    def __init__(self, monkeypatch, room):
        self.steps, self.wanted, self.reasons, self.looked = [], [], [], 0
        monkeypatch.setattr(elastic, "num_cpus", lambda: 16)
        monkeypatch.setattr(elastic, "leaving_hosts", set)
        monkeypatch.setattr(
            ElasticScalingPolicy, "make_decision_for_running_worker_group", self.look
        )
        self.policy = elastic.DividingPolicy(
            SCALING, (1, 2, 4), lambda: self.steps, self.wanted.append, self.reasons.append
        )
        self.policy._get_reserved_resources = lambda: {"host": {"CPU": float(room)}}

    def look(self, *_):
        """Decide as Ray would: it looks now and then, here once."""
        self.looked += 1
        return ResizeDecision(4, {}) if self.looked == 1 else NoopDecision()

    def decide(self, *reported, over=False, size=2):
        reports = [SimpleNamespace(metrics={"step": each, "over": over}) for each in reported]
        statuses = {i: SimpleNamespace(training_report=r) for i, r in enumerate([*reports, None])}
        found = self.policy.make_decision_for_running_worker_group(
            SimpleNamespace(num_workers=size), SimpleNamespace(worker_statuses=statuses)
        )
        return getattr(found, "num_workers", None)


def test_more_workers_start_when_a_checkpoint_has_just_been_stored(monkeypatch):
    running = Running(monkeypatch, room=4)
    running.steps = [8]
    assert running.decide() is None  # there is room, but no fresh checkpoint
    assert running.wanted == [SAVE]
    assert running.decide(16, 16) is None  # it is handed over, not stored
    assert running.decide() is None
    running.steps = [16, 8]
    assert running.decide() == 4
    assert running.decide(24) is None  # until Ray finds room again
    assert running.wanted == [SAVE]


def test_workers_are_not_replaced_for_room_that_is_gone_or_before_they_end(monkeypatch):
    running = Running(monkeypatch, room=2)
    running.steps = [16]
    assert running.decide(16) is None
    running = Running(monkeypatch, room=4)
    running.steps = [40]
    assert running.decide(40, over=True) is None


def test_workers_that_starve_the_stream_are_replaced_by_fewer_in_time(monkeypatch):
    running, now_s = Running(monkeypatch, room=2), [100.0]
    running.looked = 1  # Ray looks again in minutes
    monkeypatch.setattr(elastic.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(elastic, "num_cpus", lambda: 2)
    assert running.decide() is None
    assert running.wanted == [SAVE]
    now_s[0] += elastic.STARVING_S + 1
    assert running.reasons == []
    assert running.decide() == 1
    assert running.reasons == ["the stream that feeds the workers had no core left"]


def test_storage_that_is_away_keeps_the_workers_there_are(monkeypatch):
    running = Running(monkeypatch, room=4)

    def away():
        raise OutageError("away")

    running.policy.stored = away
    assert running.decide(16) is None
    running.policy.stored = lambda: [16]
    assert running.decide() == 4


def test_what_became_of_the_workers_is_one_line():
    wall = Wall()
    wall.continues(0, 2)
    wall.hold("worker 1 was lost (its host is gone)")
    wall.continues(16, 1)
    wall.continues(24, 2)
    wall.hold("worker 0 was lost (its process ended)")
    wall.continues(24, 2)
    lines = [
        "worker 1 was lost (its host is gone); 1 worker now; continuing from step 16",
        "2 workers now; continuing from step 24",
        "worker 0 was lost (its process ended); continuing from step 24",
    ]
    # Whoever did not hear an answer in time asks for the same again.
    assert [wall.read(0), wall.read(0), wall.read(2), wall.read(3)] == [lines, lines, lines[2:], []]


def test_a_save_is_wanted_once_and_an_end_for_good():
    wall = Wall()
    assert wall.wanted() == ""
    wall.want(SAVE)
    assert [wall.wanted(), wall.wanted()] == [SAVE, ""]
    wall.want(STOP)
    wall.want(SAVE)
    assert [wall.wanted(), wall.wanted()] == [STOP, STOP]


def test_a_range_of_workers_is_two_numbers_and_survives_the_job_file():
    job = cli.parse(["train", "demo", "--workers", "1", "4"])
    assert job.workers == (1, 4)
    assert recipes.from_json(recipes.to_json(job)) == job
    assert cli.parse(["train", "demo", "--workers", "2"]).workers == 2
    with pytest.raises(ValueError, match="workers 4 to 1 is no range"):
        dataclasses.replace(job, workers=(4, 1))
