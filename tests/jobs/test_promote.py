import pytest
from mlflow.exceptions import MlflowException

from jobs.errors import JobError
from jobs.promote import judge
from jobs.registry import Registry, Version


def version(number, psnr_db=None, input_db=20.0, images="a"):
    tags = {}
    if psnr_db is not None:
        tags = {
            "psnr_db.b": str(psnr_db),
            "input_psnr_db.b": str(input_db),
            "images.b": images,
        }
    return Version("m", number, "run", tags)


def test_a_candidate_that_beats_input_and_champion_passes():
    judge(version(1, 27.0), None, "b")
    judge(version(2, 28.0), version(1, 27.0), "b")


@pytest.mark.parametrize(
    ("candidate", "champion", "message"),
    [
        (version(2), None, "m/2 was not measured on b; run: laformer evaluate --model m/2"),
        (version(2, 19.0), None, "its degraded input 20.00: not promoted"),
        (version(2, 27.0), version(1, 27.0), "the champion m/1 27.00: not promoted"),
        (version(2, 28.0), version(1), "m/1 was not measured on b"),
        (version(2, 28.0), version(1, 27.0, images="c"), "measured on other photos"),
    ],
)
def test_the_gate_refuses_with_the_numbers(candidate, champion, message):
    with pytest.raises(JobError, match=message):
        judge(candidate, champion, "b")


def test_a_registry_that_is_away_is_not_a_registry_without_a_champion(monkeypatch, tmp_path):
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert registry.alias("m", "champion") is None

    def away(*_):
        raise MlflowException("database is locked")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.get_model_version_by_alias", away)
    with pytest.raises(JobError, match="cannot be reached"):
        registry.alias("m", "champion")
