"""What goes wrong outside: one message, exit code 1, no traceback, soon."""

import time

import pytest

from jobs import cli


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Run the verbs in an empty folder, with a bucket server at a port where nobody listens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAFORMER_STORE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    return tmp_path


def says(capsys, argv):
    assert cli.main(argv) == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.startswith("error: ")
    return err


def test_an_unreachable_bucket(elsewhere, capsys):
    started = time.monotonic()
    err = says(capsys, ["prepare", "s3://photos/in"])
    assert "http://127.0.0.1:9 cannot be reached; check AWS_ENDPOINT_URL" in err
    assert time.monotonic() - started < 30


def test_a_bucket_that_does_not_exist(elsewhere, s3, capsys, monkeypatch):
    monkeypatch.undo()
    assert "bucket no-such-bucket does not exist" in says(
        capsys, ["prepare", "s3://no-such-bucket"]
    )


def test_an_empty_folder(elsewhere, capsys):
    (elsewhere / "photos").mkdir()
    assert "put .png, .jpg" in says(capsys, ["prepare", "photos"])
    assert "put .png, .jpg" in says(capsys, ["restore", "photos", "out"])


def test_training_before_preparing(elsewhere, capsys):
    assert "write one with: laformer prepare PHOTOS" in says(capsys, ["train", "demo"])


@pytest.mark.parametrize("verb", [["evaluate", "--model", "ghost@candidate"], ["promote", "ghost"]])
def test_a_model_that_does_not_exist(elsewhere, capsys, verb):
    assert "no model 'ghost@candidate'" in says(capsys, verb)


def test_restoring_without_any_champion(elsewhere, capsys):
    (elsewhere / "photos").mkdir()
    (elsewhere / "photos" / "a.png").write_bytes(b"anything")
    err = says(capsys, ["restore", "photos", "out"])
    assert "is a champion; use weights that come with the package (--task denoise-gaussian" in err


def test_a_tracking_server_that_is_away(elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    err = says(capsys, ["promote", "ghost"])
    assert "MLflow at http://127.0.0.1:9 cannot be reached; start it or unset" in err


def test_a_cluster_that_is_away(elsewhere, capsys, monkeypatch):
    (elsewhere / "photos").mkdir()
    (elsewhere / "photos" / "a.png").write_bytes(b"anything")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:9" in says(
        capsys, ["prepare", "photos"]
    )


def refuse(**_):
    raise ConnectionError
