"""What is registered, as a table and as JSON, and the way of a photo back to the commit."""

import dataclasses
import hashlib
import json

import pytest

from jobs import cli
from jobs.errors import JobError
from jobs.tracking import Tracker
from jobs.versions import lineage
from jobs.versions.registry import CANDIDATE, CHAMPION, Registry
from pipelines import storage
from pipelines.receipts import Ledger, Receipt

TAGS = {
    "task": "jpeg",
    "step": "1200",
    "sha256": "abcdef" * 8,
    "num_bytes": "1500000",
    "manifest_sha256": "feed",
    "git_revision": "c0ffee",
    "psnr_db.held-out-q20": "31.5",
    "input_psnr_db.held-out-q20": "29.0",
    "protocol.held-out-q20": "jpeg-colour",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Have a model with a champion and a bare candidate, and another model."""
    folder = tmp_path_factory.mktemp("store")
    patch = pytest.MonkeyPatch()
    patch.setenv("LAFORMER_STORE", str(folder))
    registry, tracker = Registry(), Tracker()
    run_id = tracker.continue_run("e", str(folder / "train" / "mine"), {"manifest_sha256": "feed"})
    for name in ("m", "n"):
        registry.client.create_registered_model(name)
        for tags in (TAGS, {}):
            registry.client.create_model_version(name, str(folder), run_id=run_id, tags=tags)
    registry.promote(registry.resolve("m/1"))
    registry.nominate(registry.resolve("m/2"))
    yield folder
    patch.undo()


def restored(store, target, model, data=b"pixels"):
    """Leave what laformer restore leaves of one photo."""
    storage.put(f"{target}/sub/a [1].png", data)
    receipt = Receipt(
        key="sub/a [1].jpg",
        target_key="sub/a [1].png",
        status="restored",
        sha256=hashlib.sha256(data).hexdigest(),
        etag="e",
    )
    ledger = Ledger(str(target), {"source": f"{store}/photos", "model": model})
    list(ledger.begin(again=False).keep([dataclasses.asdict(receipt)]))


def test_versions_are_listed_with_what_is_known_of_them(store, capsys):
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    for word in (CHAMPION, CANDIDATE, "31.50", "(29.00)", "1,200", "mine", "1.5"):
        assert word in table
    assert cli.main(["models", "m", "--json"]) == 0
    newest, first = json.loads(capsys.readouterr().out)
    assert (newest["version"], newest["aliases"], newest["scores"]) == ("m/2", [CANDIDATE], {})
    assert first["aliases"] == [CHAMPION]
    assert first["scores"]["held-out-q20"] == {
        "input_psnr_db": 29.0,
        "protocol": "jpeg-colour",
        "psnr_db": 31.5,
    }
    assert (first["step"], first["run"], first["num_bytes"]) == (1200, "mine", 1_500_000)
    assert cli.main(["models", "ghost"]) == 1
    assert "no model 'ghost'" in capsys.readouterr().err


def test_a_store_without_models_says_how_to_get_one(store, monkeypatch, capsys):
    monkeypatch.setattr(Registry, "versions", lambda *_: [])
    assert cli.main(["models"]) == 0
    assert "train one with: laformer train demo" in capsys.readouterr().out


def test_a_restored_photo_leads_back_to_its_commit(store, tmp_path, capsys):
    restored(store, tmp_path, "m/1")
    assert cli.main(["models", "--receipt", str(tmp_path), "sub/a [1].png"]) == 0
    shown = capsys.readouterr().out
    for word in ("a [1].png, as it was written", "m/1", "1200", "mine (", "feed", "c0ffee"):
        assert word in shown
    assert lineage.UNKNOWN not in shown
    storage.put(f"{tmp_path}/sub/a [1].png", b"others")
    assert lineage.trace(str(tmp_path), "sub/a [1].jpg").state == "changed since"
    storage.delete(f"{tmp_path}/sub/a [1].png")
    assert lineage.trace(str(tmp_path), "sub/a [1].png").state == "no longer there"


def test_the_last_receipt_counts_and_a_folder_leads_to_the_version_of_its_weights(store, tmp_path):
    restored(store, tmp_path, "m/2")
    restored(store, tmp_path, f"/some/folder@{TAGS['sha256'][:16]}")
    found = lineage.trace(str(tmp_path), "sub/a [1].png")
    assert str(found.version) == "m/1"
    restored(store, tmp_path, "/some/folder@0000")
    restored(store, tmp_path, "gone/7")
    links = lineage.trace(str(tmp_path), "sub/a [1].png").links
    assert (links["model"], links["version"], links["run"]) == ("gone/7", "unknown", "unknown")


def test_a_photo_without_a_receipt_is_explained(store, tmp_path):
    with pytest.raises(JobError, match=r"no receipt of 'x.png' in .*; name the folder that"):
        lineage.trace(str(tmp_path / "nowhere"), "x.png")
    restored(store, tmp_path, "m/1")
    with pytest.raises(JobError, match=r"no receipt of 'x.png'"):
        lineage.trace(str(tmp_path), "x.png")
