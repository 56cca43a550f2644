import pytest

from jobs import place


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:canary@host:5000/x", "http://host:5000/x"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_secret(uri, shown):
    assert place.without_secret(uri) == shown


def test_places_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert place.store() == str(tmp_path / "runs")
    assert place.manifest_uri() == str(tmp_path / "runs" / "manifest.parquet")
    assert place.tracking_uri() == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("LAFORMER_STORE", "s3://bucket/here")
    assert place.run_folder("first") == "s3://bucket/here/train/first"
    # A sqlite file needs a disk.
    assert place.tracking_uri() == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert place.tracking_uri() == "http://host:5000"
