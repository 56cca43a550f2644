"""The verbs on hosts of their own, over a store that lasts: what infra/ is made for."""

import json
import os
import socket

import pytest

from jobs.errors import JobError
from jobs.remote.dashboard import Dashboard
from jobs.tracking import Tracker
from pipelines import manifest, storage
from tests.cluster import network
from tests.cluster.cluster import BUCKET
from tests.cluster.work import MODEL_VERSION, NOISY, STEPS, STORE
from tests.hosts import Command

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def trained(work):
    """Prepare, train by workers of two hosts, and restore."""
    work.begin()
    return work


def test_a_run_leaves_all_its_samples_checkpoints_and_numbers(trained):
    assert trained.samples("undisturbed").is_clean
    assert trained.checkpoints("undisturbed").is_clean
    found = manifest.read(f"{STORE}/manifest.parquet")
    assert len(found.usable("train")) + len(found.usable("held_out")) == 10
    tracker = Tracker()
    (run,) = tracker.client.search_runs(["1"], "tags.`laformer.run` LIKE '%undisturbed'")
    losses = tracker.history(run.info.run_id, "loss")
    assert [step for step, _ in losses] == list(range(10, STEPS + 1, 10))


def test_a_restored_bucket_is_accounted_for(trained):
    assert trained.photos("undisturbed").is_clean
    (report,) = [
        entry
        for entry in storage.list_entries(f"s3://{BUCKET}/undisturbed/.laformer", (".json",))
        if entry.key.endswith("report.json")
    ]
    text = storage.get(f"s3://{BUCKET}/undisturbed/.laformer/{report.key}")
    assert json.loads(text)["reconciled"]


def test_a_search_of_two_trials(trained):
    words = ("tune", "debug-denoise-gaussian-25", "--trials", "2", "--workers", "1")
    command = trained.done(*words)
    assert "2 trials" in str(command), command


def test_a_job_from_a_desk_beside_the_cluster(trained):
    """The desk has an address and a token, no Ray and no disk that the hosts see."""
    target = f"s3://{BUCKET}/submitted"
    words = ("restore", NOISY, target, "--model", MODEL_VERSION)
    address = ("--address", trained.cluster.dashboard)
    command = Command("jobs.cli", "submit", *address, "--", *words, **os.environ)
    trained.commands.append(command)
    assert command.ended(240) == 0, command
    assert trained.photos("submitted").is_clean
    secrets = ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN")
    assert not [name for name in secrets if os.environ[name] in str(command)]


def test_without_the_token_nothing_is_done(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong" * 10)
    with pytest.raises(JobError, match="refuses this token"):
        Dashboard.connect(trained.cluster.dashboard)


def test_what_the_store_has_acknowledged_survives_the_end_of_its_processes(trained):
    before = trained.reference
    trained.cluster.ceph.kill()
    trained.cluster.ceph.restart()
    assert trained.photos("undisturbed").is_clean
    assert len(before) == trained.num_photos


def test_the_hosts_do_not_see_the_machine(trained):
    """A host's network holds its own card and the way to the others, nothing else."""
    cards = network.inside(f"{network.PREFIX}worker-1", "-json", "link")
    assert {card["ifname"] for card in json.loads(cards)} == {"lo", network.DEVICE}
    assert {name for _, name in socket.if_nameindex()} == {"lo", network.DEVICE}  # of the desk
