"""What is done to a cluster while a job runs: to its processes, hosts, links and servers."""

import contextlib
import dataclasses
import os
import signal
import time
from functools import partial
from pathlib import Path

from tests.cluster.host import DISK
from tests.cluster.proxy import READS, WRITES, Plan

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
NOTICE_S = 30


class NotHereError(Exception):
    """What a fault needs is not on this machine."""


def victim(work):
    """Return a host of a training worker or of an actor, the last one first."""
    found = [
        name
        for name in work.cluster.workers()
        if work.cluster.hosts[name].pids("RayTrainWorker")
        or work.cluster.hosts[name].pids("MapWorker")
    ]
    assert found, "no host has a worker"
    return found[-1]


def worker_is_killed(work, command, name):
    assert work.cluster.hosts[victim(work)].signal("RayTrainWorker")


def actor_is_killed(work, command, name):
    host = work.cluster.hosts[victim(work)]
    pids = host.pids("MapWorker")
    assert pids
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[0], signal.SIGKILL)


def driver_is_killed(work, command, name):
    head = work.cluster.hosts["head"]
    assert head.signal("tests.driver") + head.signal("jobs.cli")


def host_is_killed(work, command, name):
    work.cluster.hosts[victim(work)].kill()


def link_is_cut(seconds, work, command, name):
    host = victim(work)
    work.cluster.network.cut(host)
    if seconds is not None:
        time.sleep(seconds)
        work.cluster.network.heal(host)


def host_gives_notice(work, command, name):
    host = victim(work)
    work.cluster.announce(host, NOTICE_S)
    command.said("the workers have left that host", seconds=NOTICE_S)
    work.cluster.hosts[host].kill()


def head_is_killed(work, command, name):
    work.cluster.hosts["head"].kill()


def storage_is_killed(work, command, name):
    work.cluster.ceph.kill()
    time.sleep(8)
    work.cluster.ceph.restart()


def plan(kind, rate, verbs=READS + WRITES, key=""):
    """Return what makes the proxy do that."""
    return partial(_harm, Plan(kind, rate, verbs, key=key))


def _harm(harm, work, command, name):
    work.cluster.proxy.harm(dataclasses.replace(harm, seed=work.seed))


def bucket_is_full(work, command, name):
    work.cluster.proxy.harm(Plan("full", 1.0, WRITES, key="/runs/"))


def disk_is_full(work, command, name):
    host = work.cluster.hosts[victim(work)]
    # It ends with an error: there is no more room.
    host.start("dd", "if=/dev/zero", f"of={DISK}/full", "bs=1M").wait()


def tracking_is_away(work, command, name):
    work.cluster.reboot("mlflow")
    time.sleep(10)
    work.cluster.start_mlflow()
    work.cluster.wait_for_mlflow()


def clock_is_ahead(work, command, name):
    if not FAKETIME.exists():
        raise NotHereError("needs libfaketime: apt-get install libfaketime")
    host = work.cluster.workers()[-1]
    work.cluster.reboot(host)
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": "+1h", "DONT_FAKE_MONOTONIC": "1"}
    work.cluster.start_worker(host, **environment)
    work.cluster.skewed.add(host)
    work.cluster.wait_for_workers(len(work.cluster.workers()))
