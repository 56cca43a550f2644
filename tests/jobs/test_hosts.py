"""Whole hosts that come, go and give notice: the run follows them, and every step is done once."""

import dataclasses
import time
from contextlib import closing

import pytest

from jobs import prepare, recipes
from jobs.checkpoints import StoredShelf
from jobs.config import PrepareJob
from tests import faults
from tests.hosts import Command, Hosts
from tests.jobs.test_way import training, upload

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY = 240, 40


@pytest.fixture(scope="module")
def hosts():
    with closing(Hosts()) as found:
        yield found


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAFORMER_STORE", str(folder))
        upload(str(folder / "photos"), 6)
        prepare.run(PrepareJob(photos=str(folder / "photos"), holdout=0.3))
    return folder


@pytest.fixture
def started(hosts, store, tmp_path):
    """Return a function that starts a run: its command and its checkpoints."""
    commands = []

    def start(name, workers):
        job = training(steps=STEPS, checkpoint_every=EVERY, segment_steps=100)
        job = dataclasses.replace(job, name=name, workers=workers)
        (tmp_path / "job.json").write_text(recipes.to_json(job))
        environment = {
            "RAY_ADDRESS": hosts.address,
            "LAFORMER_STORE": str(store),
            "LAFORMER_SHARED_DISK": "1",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
        }
        words = ("tests.driver", "train", "--job", str(tmp_path / "job.json"))
        commands.append(Command(*words, **environment))
        return commands[-1], StoredShelf(str(store / "train" / name))

    yield start
    for command in commands:
        command.close()
        print(command)  # pytest shows it where a test fails
    for host in list(hosts.cluster.worker_nodes):
        hosts.cluster.remove_node(host, allow_graceful=False)


def reaches(command, shelf, step, seconds=180):
    """Wait for a checkpoint of that step or a later one; return the newest."""
    deadline = time.monotonic() + seconds
    while (newest := max(shelf.complete(), default=0)) < step:
        assert time.monotonic() < deadline, f"no step {step} within {seconds} s:\n{command}"
        assert command.process.poll() is None, f"ended early:\n{command}"
        time.sleep(0.05)
    return newest


def one_host_with_workers(hosts):
    (host,) = hosts.with_workers()
    return host


def continued(command, text, start=0):
    """Wait for a line of a restart; return its step, its number, and when it was said."""
    number = command.said(text, start=start)
    return int(command.lines[number].split("step ")[1]), number, command.times_s[number]


def record(store, name):
    """Return per step, of the last time it was done: when, by how many, and on which samples."""
    done = {}
    for rank in range(2):
        path = store / "train" / name / f"{faults.SAMPLES}{rank}"
        for line in path.read_text().splitlines() if path.exists() else ():
            at_s, step, size, *ids = line.split()
            at_once = done.setdefault(int(step), {}).setdefault(int(size), {})
            at_once[rank] = (float(at_s), list(map(int, ids)))
    found = {}
    for step, by_size in sorted(done.items()):
        size, shares = max(by_size.items(), key=lambda item: item[1][0][0])
        ids = [each for rank in range(size) for each in shares[rank][1]]
        found[step] = (shares[0][0], size, ids)
    return found


def done_before(store, name, at_s):
    """Return how many steps rank 0 had done by then."""
    lines = (store / "train" / name / f"{faults.SAMPLES}0").read_text().splitlines()
    return 1 + max(int(line.split()[1]) for line in lines if float(line.split()[0]) < at_s)


def did_everything(store, name, shelf):
    """Check that every step was done on the samples that are planned for it."""
    assert shelf.complete()[0] == STEPS
    found = record(store, name)
    assert list(found) == list(range(STEPS))
    for step, (_, _, ids) in found.items():
        assert ids == list(range(4 * step, 4 * step + 4)), step
    return found


def test_workers_come_and_go_with_the_hosts(hosts, store, started):
    hosts.add(num_cpus=2)
    command, shelf = started("elastic", (1, 2))
    reaches(command, shelf, EVERY)
    hosts.add(num_cpus=2)
    grown, number, grown_s = continued(command, "2 workers now; continuing from step ")
    assert command.lines[number] == f"2 workers now; continuing from step {grown}"
    last = reaches(command, shelf, grown + EVERY)
    hosts.kill(hosts.with_workers()[0])  # the workers are on one of them, or on both
    killed_s = time.time()
    lost = command.said("was lost (", start=number)
    # In this line, or in a later one: while Ray counts the host still, two may start on the other.
    shrunk, _, told_s = continued(command, "1 worker now; continuing from step ", lost)
    assert shrunk >= last
    assert command.ended() == 0, command
    found = did_everything(store, "elastic", shelf)
    sizes = [size for _, size, _ in found.values()]
    assert sizes == [1] * grown + [2] * (shrunk - grown) + [1] * (STEPS - shrunk)
    print(f"growing did {done_before(store, 'elastic', grown_s) - grown} steps again")
    print(f"told after {told_s - killed_s:.1f} s, a step after {found[shrunk][0] - killed_s:.1f} s")


def test_the_host_of_all_workers_is_killed(hosts, store, started):
    hosts.add(num_cpus=3)
    hosts.add(num_cpus=3)
    command, shelf = started("killed", 2)
    last = reaches(command, shelf, EVERY)
    hosts.kill(one_host_with_workers(hosts))
    killed_s = time.time()
    step, number, told_s = continued(command, "continuing from step ")
    assert step >= last
    assert "was lost (" in command.lines[number]
    assert command.ended() == 0, command
    found = did_everything(store, "killed", shelf)
    print(f"told after {told_s - killed_s:.1f} s, a step after {found[step][0] - killed_s:.1f} s")


def test_a_host_that_gives_notice_is_left_without_a_step_lost(hosts, store, started):
    hosts.add(num_cpus=3)
    hosts.add(num_cpus=3)
    command, shelf = started("noticed", 2)
    reaches(command, shelf, EVERY)
    host = one_host_with_workers(hosts)
    hosts.announce(host, seconds=40)
    announced_s = time.time()
    saving, number, saved_s = continued(command, "a host is about to be taken away; saving step ")
    step, number, told_s = continued(command, "continuing from step ", number)
    assert command.lines[number] == f"the workers have left that host; continuing from step {step}"
    assert step == saving
    reaches(command, shelf, step + EVERY)
    assert host not in hosts.with_workers()
    hosts.kill(host)
    assert command.ended() == 0, command
    found = did_everything(store, "noticed", shelf)
    print(
        f"saving after {saved_s - announced_s:.1f} s, elsewhere after {told_s - announced_s:.1f} s,"
        f" a step after {found[step][0] - announced_s:.1f} s"
    )


def test_workers_whose_stream_has_lost_its_core_become_fewer(hosts, store, started):
    hosts.add(num_cpus=2)
    feeding = hosts.add(num_cpus=1)
    command, shelf = started("starved", (1, 2))
    last = reaches(command, shelf, EVERY)
    assert feeding not in hosts.with_workers()
    hosts.kill(feeding)
    killed_s = time.time()
    text = "the stream that feeds the workers had no core left; 1 worker now; continuing from step "
    step, _, told_s = continued(command, text)
    assert step >= last
    assert command.ended() == 0, command
    found = did_everything(store, "starved", shelf)
    assert [size for _, size, _ in found.values()] == [2] * step + [1] * (STEPS - step)
    print(f"told after {told_s - killed_s:.1f} s, a step after {found[step][0] - killed_s:.1f} s")
