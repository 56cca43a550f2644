"""CPUs and GPUs are added up before a search begins."""

import pytest

from jobs.cluster import Cluster
from jobs.errors import JobError
from jobs.search.budget import Ask, slots

LAPTOP = Cluster(num_cpus=2, num_gpus=0, is_local=True)
HOST = Cluster(num_cpus=64, num_gpus=8, is_local=False)


def test_small_trials_fill_the_cores_or_the_gpus():
    room = slots(Ask(workers=1, most=16), LAPTOP, num_cpus=4)
    assert (room.concurrent, room.cpus, room.gpus) == (2, 1.5, 0)
    room = slots(Ask(workers=1, most=16), HOST, num_cpus=64)
    assert (room.concurrent, room.cpus, room.gpus) == (8, 1, 1)
    assert slots(Ask(workers=1, most=3), HOST, num_cpus=64).concurrent == 3


def test_trials_of_workers_are_as_many_as_gpus_and_cpus_allow():
    assert slots(Ask(workers=2, most=16), HOST, num_cpus=64).concurrent == 4
    assert slots(Ask(workers=2, most=16), HOST, num_cpus=5).concurrent == 2
    assert slots(Ask(workers=2, most=16), LAPTOP, num_cpus=4).concurrent == 1


@pytest.mark.parametrize(
    ("ask", "cluster", "num_cpus", "message"),
    [
        (
            Ask(workers=16),
            HOST,
            64,
            r"takes 16 GPUs and 2 CPUs \(16 workers on a GPU each.*8 GPUs and 64 CPUs; use --w.* 8",
        ),
        (Ask(workers=4), LAPTOP, 4, r"takes 6 CPUs \(4 workers of 1 CPU each.*use --workers 2"),
        (Ask(workers=1), Cluster(1, 0, is_local=False), 1, "all share 1 CPU that decodes"),
        (
            Ask(workers=2, concurrent=5, most=9),
            HOST,
            64,
            "5 trials at a time do not fit.*5 take 10 GPUs and 10 CPUs.*use --concurrent 4",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused_with_the_arithmetic(ask, cluster, num_cpus, message):
    with pytest.raises(JobError, match=message):
        slots(ask, cluster, num_cpus)
