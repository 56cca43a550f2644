"""Which failures of workers are worth another start."""

import pickle

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from jobs.errors import JobError
from jobs.training.restarts import MAX_IN_A_ROW, Restarts
from laformer.errors import CheckpointError, LeavingError, StreamError, TrainingError
from pipelines.errors import DataError, OutageError

DEAD = WorkerHealthCheckFailedError("A worker health check failed.", RayActorError())
PEER = RuntimeError("Connection closed by peer [127.0.0.1]:4711")


class Held:
    def __init__(self):
        self.lines = []

    def hold(self, text):
        self.lines.append(text)


@pytest.fixture
def restarts():
    return Restarts(Held())


def fail(restarts, errors):
    restarts.after_exception(run_context=None, worker_exceptions=errors)


def reach(restarts, step):
    restarts.after_report(run_context=None, metrics=[{"step": step}], checkpoint=None)


def dead(message):
    error = RayActorError(error_msg=f"The actor died. Owner node 1f. {message}")
    return WorkerHealthCheckFailedError("A worker health check failed.", error)


def remote(error):
    return RayTaskError("read", "Traceback ...", error).as_instanceof_cause()


@pytest.mark.parametrize(
    "error",
    [
        TrainingError("the loss before step 5 is nan"),
        CheckpointError("none of the 3 checkpoints is good"),
        DataError("8 photos in a row cannot be read"),
        remote(DataError("8 photos in a row cannot be read")),
        TypeError("train_step() takes 3 arguments"),
        KeyError("lq"),
    ],
)
def test_what_another_start_cannot_mend_ends_the_run_at_once(restarts, error):
    with pytest.raises(type(getattr(error, "cause", error))) as raised:
        fail(restarts, {0: PEER, 1: error})
    assert str(raised.value) == str(pickle.loads(pickle.dumps(raised.value)))
    assert restarts.notices.lines == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DEAD, "its process ended"),
        (dead("The process was killed by the OOM killer or crashed"), "its process ended"),
        (dead("The actor is dead because its node has died."), "its host is gone"),
        (dead("killed due to the node running low on memory"), "its host had no memory left"),
        (PEER, "RuntimeError: Connection closed by peer [127.0.0.1]:4711"),
        (OutageError("s3://b/k: cannot be reached"), "OutageError: s3://b/k: cannot be reached"),
        (remote(OutageError("away")), "OutageError: away"),
        (StreamError("step 5 received 3 samples"), "StreamError: step 5 received 3 samples"),
        (RuntimeError(), "RuntimeError: no message"),
    ],
)
def test_what_passes_is_tried_again_and_told(restarts, error, said):
    fail(restarts, {1: error})
    assert restarts.notices.lines == [f"worker 1 was lost ({said})"]


def test_the_dead_worker_explains_the_errors_of_its_peers(restarts):
    fail(restarts, {0: PEER, 1: DEAD, 2: PEER})
    assert restarts.notices.lines == ["worker 1 was lost (its process ended)"]


def test_losses_without_progress_end_the_run(restarts):
    reach(restarts, 8)
    for _ in range(MAX_IN_A_ROW):
        fail(restarts, {0: DEAD})
    with pytest.raises(JobError, match=r"lost 4 times without progress, .*same command again"):
        fail(restarts, {0: DEAD})


def test_losses_with_progress_between_them_never_do(restarts):
    for step in range(8, 800, 8):
        fail(restarts, {0: DEAD})
        fail(restarts, {0: DEAD})
        reach(restarts, step)


def test_hosts_that_are_taken_away_never_do(restarts):
    taken = WorkerHealthCheckFailedError("x", RayActorError(preempted=True))
    for _ in range(20):
        fail(restarts, {0: PEER, 1: taken})
    assert restarts.notices.lines[-1] == "worker 1 was lost (its host was taken away)"


def test_workers_that_leave_a_host_never_do(restarts):
    for _ in range(20):
        fail(restarts, {0: LeavingError("step 5"), 1: LeavingError("step 5")})
    assert restarts.notices.lines[-1] == "the workers have left that host"


def test_an_outage_of_storage_is_waited_for_but_not_for_ever(restarts, monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr("jobs.training.restarts.time.monotonic", lambda: now_s[0])
    for _ in range(20):
        now_s[0] += 25
        fail(restarts, {0: OutageError("away")})
    now_s[0] += 600
    for _ in range(MAX_IN_A_ROW):
        fail(restarts, {0: OutageError("away")})
    with pytest.raises(OutageError):
        fail(restarts, {0: OutageError("away")})


def test_an_error_of_unknown_kind_is_raised_as_it_is_after_some_tries(restarts):
    for _ in range(MAX_IN_A_ROW):
        fail(restarts, {0: PEER})
    with pytest.raises(RuntimeError, match="closed by peer"):
        fail(restarts, {0: PEER})
