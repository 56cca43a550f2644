"""laformer restore as a batch that finishes: sources, other jobs, bad photos, kills."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import account, cli, restore
from jobs.config import RestoreJob
from jobs.errors import JobError
from laformer import checkpoint
from pipelines import images, manifest, receipts, storage
from pipelines.config import Folders, RestoreConfig
from pipelines.images import Photo
from pipelines.indexing import index
from pipelines.receipts import Ledger
from tests.networks import config, state

pytestmark = pytest.mark.ray
NUM_KILLS = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return two checkpoint folders of random weights."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        checkpoint.save(folder / str(seed), state(config(), seed), {})
    return str(folder / "0"), str(folder / "1")


def fill(folder, num, size=(24, 40)):
    rng = np.random.default_rng(0)
    for i in range(num):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        data = images.encode(Photo(pixels=pixels), ".png")
        storage.put(f"{folder}/album {i % 2}/{i}.png", data)


def digests(folder):
    entries = storage.list_entries(str(folder), images.SUFFIXES)
    return {e.key: hashlib.sha256(Path(folder, e.key).read_bytes()).hexdigest() for e in entries}


def test_a_target_never_mixes_models_and_a_job_is_continued(cluster, models, tmp_path, capsys):
    source, target = str(tmp_path / "in"), str(tmp_path / "out")
    fill(source, 5)
    job = RestoreJob(source=f"{source}/album 0/*.png", target=target, model=models[0])
    done = restore.run(job)
    assert (done.num_listed, done.num_restored, done.num_now) == (3, 3, 3)
    assert set(digests(target)) == {"0.png", "2.png", "4.png"}
    report = json.loads(Path(done.report).with_suffix(".json").read_text())
    assert report["reconciled"]
    assert (report["restored"], report["facts"]["model"]) == (3, done.model)
    assert "3 photos restored" in Path(done.report).read_text()
    first = digests(target)

    again = restore.run(dataclasses.replace(job, restore=RestoreConfig(verify=True)))
    assert (again.num_restored, again.num_now) == (3, 0)
    other = dataclasses.replace(job, model=models[1])
    with pytest.raises(JobError, match=r"holds 3 of these photos restored by another job.*mixture"):
        restore.run(other)
    assert digests(target) == first

    other = dataclasses.replace(other, restore=RestoreConfig(overwrite=True))
    assert restore.run(other).num_now == 3
    assert restore.run(other).num_now == 3  # finished, and asked to do it again
    assert not set(digests(target).values()) & set(first.values())
    with pytest.raises(JobError, match="restored by another job"):
        restore.run(job)
    (Path(target) / "2.png").write_bytes(b"x" * Path(target, "2.png").stat().st_size)
    back = restore.run(dataclasses.replace(other, restore=RestoreConfig(verify=True)))
    assert back.num_now == 1


def test_a_manifest_is_reconciled_row_by_row(cluster, models, tmp_path):
    source, target, uri = (str(tmp_path / name) for name in ("in", "out", "m.parquet"))
    fill(source, 4)
    storage.put(f"{source}/broken.png", b"\x89PNG nothing behind it")
    catalogue = index(Folders(root=source), uri, holdout=0)
    storage.delete(f"{source}/album 0/0.png")
    job = RestoreJob(source=uri, target=target, model=models[0])
    done = restore.run(job)
    assert (done.num_listed, done.num_restored, done.num_bad) == (5, 3, 2)
    reasons = {row["key"]: row["reason"] for row in done.bad}
    assert reasons["album 0/0.png"] == "is no longer there; run laformer prepare again"
    assert reasons["broken.png"] == catalogue.bad()["reason"][0].as_py()
    page = Path(done.report).read_text()
    assert "broken.png" in page
    with pytest.raises(JobError, match=r"more than --max-bad-fraction 0\.1"):
        restore.run(dataclasses.replace(job, restore=RestoreConfig(max_bad_fraction=0.1)))
    assert manifest.read(uri).table.num_rows == 5


def test_a_listing_that_does_not_reconcile_is_an_error(cluster, models, tmp_path, monkeypatch):
    source, target = str(tmp_path / "in"), str(tmp_path / "out")
    fill(source, 2)
    job = RestoreJob(source=source, target=target, model=models[0])
    kept = receipts.Round.keep

    def losing(self, stream):
        yield from kept(self, list(stream)[:1])

    monkeypatch.setattr(receipts.Round, "keep", losing)
    with pytest.raises(JobError, match="1 of 2 photos have no receipt; run the same command again"):
        restore.run(job)
    monkeypatch.undo()
    assert restore.run(job).num_now == 1


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_repeat_nothing(models, tmp_path):
    """SIGKILL drivers and actors at random moments; compare with a run that nobody disturbed."""
    source, target, whole = (str(tmp_path / name) for name in ("in", "out", "whole"))
    fill(source, 60, size=(256, 256))
    rng, kills = np.random.default_rng(0), {"driver": 0, "actor": 0}
    deadline = time.monotonic() + 1500
    while sum(kills.values()) < NUM_KILLS:
        assert time.monotonic() < deadline
        driver = start(source, target, models[0], "--overwrite")
        if harassed(driver, rng, kills):
            driver.kill()
        driver.wait()
    print(f"killed: {kills}")
    assert start(source, target, models[0]).wait() == 0
    assert start(source, whole, models[0]).wait() == 0
    assert digests(target) == digests(whole)
    job = RestoreJob(source=source, target=target, model=models[0])
    name, _ = restore.load(models[0])
    ledger = Ledger(target, restore.identity(job, source, name))
    rows = ledger.begin(again=False).parts.read().to_pylist()
    done = {row["key"]: row["sha256"] for row in rows if row["status"] == receipts.RESTORED}
    assert done == digests(target)
    assert len(rows) == 60
    assert not list(Path(target).rglob("*.part"))


def start(source, target, model, *options):
    torch.manual_seed(0)
    words = ["restore", source, target, "--model", model, "--actors", "2", *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", "jobs.cli", *words], **quiet)


def harassed(driver, rng, kills):
    """Kill actors of a driver at random moments; return whether its own turn has come."""
    while driver.poll() is None and sum(kills.values()) < NUM_KILLS:
        time.sleep(rng.uniform(0.2, 1.5))
        found = actors_of(driver.pid)
        if not found:
            continue
        if rng.random() < 0.25:
            kills["driver"] += 1
            return True
        os.kill(int(rng.choice(found)), signal.SIGKILL)
        kills["actor"] += 1
    return driver.poll() is None and sum(kills.values()) < NUM_KILLS


def actors_of(root):
    """Return the processes of actors below a process."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            names[int(stat.parent.name)] = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    return [pid for pid, name in names.items() if "MapWorker" in name and below(pid, root, parents)]


def below(pid, root, parents):
    while pid not in (root, 0):
        pid = parents.get(pid, 0)
    return pid == root


def test_the_command_of_a_report_has_the_options_that_were_given():
    words = ["--actors", "2", "--verify", "--context", "tiles", "--ensemble"]
    job = cli.parse(["restore", "in", "out", *words, "--overwrite"])
    assert account.flags(job) == words
    assert account.flags(cli.parse(["restore", "in", "out"])) == []
