"""Tasks that have no champion yet, and the weights that come with the package."""

import pytest

from jobs import restore
from jobs.errors import JobError
from jobs.versions import bundled
from jobs.versions.registry import Registry
from laformer import bundle, checkpoint

TASK = "denoise-gaussian"
NAME = f"laformer-{TASK}"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "store"))
    return Registry()


def test_the_bundled_weights_are_the_first_champion_and_are_registered_once(registry):
    first = bundled.champion(TASK, registry)
    assert bundled.champion(TASK, registry) == first == registry.alias(NAME, "champion")
    assert [listed.version for listed in registry.versions()] == [first]
    assert first.tags["task"] == TASK
    name, files = restore.load(None, TASK)
    assert name == f"{NAME}/1"
    assert files[checkpoint.MODEL] == (bundle.folder(TASK) / checkpoint.MODEL).read_bytes()


def test_a_champion_of_ones_own_counts_more(registry, monkeypatch):
    own = bundled.register(TASK, registry)
    monkeypatch.setattr(bundled, "register", None)
    registry.promote(own)
    assert bundled.champion(TASK, registry) == own


def test_a_task_without_weights_says_how_to_get_them(registry):
    with pytest.raises(JobError, match="laformer train derain"):
        bundled.champion("derain", registry)


def test_a_model_and_a_task_are_not_both_named():
    with pytest.raises(ValueError, match="use one"):
        restore.RestoreJob(source="a", target="b", model="m@champion", task=TASK)
