"""A whole host is killed during a restoration: every photo is accounted for, once."""

import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from laformer import checkpoint
from pipelines import images, storage
from pipelines.images import Photo
from tests.hosts import Command, Hosts, processes
from tests.jobs.test_restore import digests
from tests.networks import config, state

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NUM = 60


@pytest.fixture
def hosts():
    with closing(Hosts()) as found:
        yield found


def restoring(hosts, source, target, model):
    environment = {"RAY_ADDRESS": hosts.address, "LAFORMER_SHARED_DISK": "1"}
    words = ("restore", str(source), str(target), "--model", str(model), "--actors", "2")
    return Command("jobs.cli", *words, **environment)


def with_actors(hosts):
    """Return the hosts on which photos are being restored."""
    return [host for host in hosts.cluster.worker_nodes if any(map(is_actor, processes(host)))]


def is_actor(pid):
    try:
        return b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def finished(target):
    return len(list(Path(target).glob("*.png")))


def test_a_host_that_is_killed_loses_nothing_and_repeats_nothing(hosts, tmp_path):
    source, target, whole = (tmp_path / name for name in ("in", "out", "whole"))
    checkpoint.save(tmp_path / "model", state(config(), 0), {})
    rng = np.random.default_rng(0)
    for i in range(NUM):
        pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
        storage.put(f"{source}/{i:03}.png", images.encode(Photo(pixels=pixels), ".png"))
    for _ in range(2):
        hosts.add(num_cpus=1)
    command = restoring(hosts, source, target, tmp_path / "model")
    with closing(command):
        deadline = time.monotonic() + 180
        while finished(target) < NUM // 10 or len(with_actors(hosts)) < 2:
            assert command.process.poll() is None, f"ended early:\n{command}"
            assert time.monotonic() < deadline, f"nothing is done:\n{command}"
            time.sleep(0.05)
        before, killed_s = finished(target), time.monotonic()
        assert before < NUM
        hosts.kill(with_actors(hosts)[0])
        while finished(target) == before:
            assert command.process.poll() is None, f"ended early:\n{command}"
            time.sleep(0.05)
        print(f"killed after {before} photos, another {time.monotonic() - killed_s:.1f} s later")
        hosts.add(num_cpus=1)  # a second actor has a place again
        assert command.ended(400) == 0, command
        print(f"ended {time.monotonic() - killed_s:.1f} s after the kill")
    with closing(restoring(hosts, source, whole, tmp_path / "model")) as undisturbed:
        assert undisturbed.ended(400) == 0, undisturbed
    assert digests(target) == digests(whole)
    parts = [pq.read_table(path) for path in (target / ".laformer").rglob("part-*.parquet")]
    rows = [row for part in parts for row in part.to_pylist()]
    assert Counter(row["key"] for row in rows) == {f"{i:03}.png": 1 for i in range(NUM)}
    assert {row["status"] for row in rows} == {"restored"}
    assert {row["key"]: row["sha256"] for row in rows} == digests(target)
    assert not list(target.rglob("*.part"))
