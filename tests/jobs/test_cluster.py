import pytest

from jobs.cluster import Cluster
from jobs.errors import JobError


def cluster(**facts):
    return Cluster(**({"num_cpus": 2, "num_gpus": 0, "is_local": True} | facts))


@pytest.mark.parametrize(
    ("facts", "global_batch", "workers"),
    [
        ({}, 4, 2),
        ({"num_cpus": 1}, 4, 1),
        ({}, 3, 1),
        ({"num_gpus": 1}, 4, 1),
        ({"num_gpus": 8}, 4, 4),
        ({"num_gpus": 6}, 32, 4),
        ({"num_cpus": 2, "is_local": False}, 4, 1),
    ],
)
def test_workers_divide_the_batch_and_leave_the_stream_a_core(facts, global_batch, workers):
    assert cluster(**facts).num_workers(None, global_batch) == workers


@pytest.mark.parametrize(
    ("facts", "wanted", "message"),
    [
        ({}, 3, "workers 3 are more than the 2 CPUs they may take; use at most 2"),
        ({"num_gpus": 2}, 4, "workers 4 are more than the 2 GPUs they may take; use at most 2"),
        ({"num_gpus": 4}, 3, "global batch 4 does not divide among 3 workers"),
    ],
)
def test_workers_that_could_only_hang_are_refused(facts, wanted, message):
    with pytest.raises(JobError, match=message):
        cluster(**facts).num_workers(wanted, 4)


def test_workers_divide_the_batch_of_every_stage():
    batches = (64, 40, 32, 16, 8, 8)
    assert cluster(num_gpus=16).num_workers(None, *batches) == 8
    assert cluster(num_gpus=6).num_workers(None, *batches) == 4
    with pytest.raises(JobError, match="global batch 40 does not divide among 16 workers"):
        cluster(num_gpus=16).num_workers(16, *batches)


def test_workers_divide_the_parts_of_a_batch():
    assert cluster(num_gpus=4).num_workers(None, 8, accumulate=4) == 2
    with pytest.raises(JobError, match=r"8 in 4 parts does not divide among 4 workers.* of 16"):
        cluster(num_gpus=4).num_workers(4, 8, accumulate=4)


def test_several_hosts_need_places_that_all_can_reach(monkeypatch):
    several = cluster(num_nodes=2, is_local=False)
    several.require_shared("s3://bucket/a", "http://mlflow:5000")
    cluster().require_shared("/disk")
    for uri in ("/disk", "file:///disk", "sqlite:////disk/mlflow.db"):
        with pytest.raises(JobError, match="is on the disk of one host but the cluster has 2"):
            several.require_shared(uri)
    monkeypatch.setenv("LAFORMER_SHARED_DISK", "1")
    several.require_shared("/disk")


def test_a_pool_has_an_actor_per_gpu_or_per_two_cores():
    assert cluster(num_cpus=8).pool().actors == 4
    assert cluster(num_gpus=3).pool().gpus_per_actor == 1
    assert cluster(num_gpus=1).pool(2).gpus_per_actor == 0.5
    assert cluster(num_cpus=8).pool(most=2).actors == 2
