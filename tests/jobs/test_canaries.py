"""Secrets planted where they may stand, and looked for where they must not."""

import logging
import secrets
import zipfile
from pathlib import Path

import pytest

from jobs import place, recipes
from jobs.errors import JobError
from jobs.remote.package import Tree
from jobs.tracking import Tracker
from jobs.train import MlflowObserver, flatten

ROOT = Path(__file__).parents[2]
CANARY = f"canary{secrets.token_hex(16)}"
MLFLOW = f"http://me:{CANARY}@127.0.0.1:9"


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    """Put a secret into every variable that is known to hold one."""
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN"),
        *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    ):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", MLFLOW)
    monkeypatch.setenv("LAFORMER_STORE", "s3://bucket/x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_the_password_of_mlflow_is_in_no_message_and_no_log(caplog, capsys):
    tracker = Tracker()
    observer = MlflowObserver(tracker.uri, "0" * 32)
    with pytest.raises(JobError) as refused:
        tracker.find_run("x")
    recorder = observer()
    with caplog.at_level(logging.DEBUG, "jobs"):
        recorder.log(1, {"loss": 1.0})
        recorder.close()
    shown = capsys.readouterr()
    told = [str(refused.value), repr(tracker), repr(observer), caplog.text, shown.out, shown.err]
    assert "MLflow at http://127.0.0.1:9 cannot be reached" in told[0]
    assert "MLflow" in caplog.text
    assert not [text for text in told if CANARY in text]


@pytest.mark.parametrize(
    "uri",
    [
        MLFLOW,
        f"https://{CANARY}@host/path",
        f"see http://a/b and http://me:{CANARY}@host/x, please",
        f"http://me@example.com:{CANARY}@host",
    ],
    ids=["password", "name", "in a sentence", "name with an at"],
)
def test_an_address_is_shown_without_its_password(uri):
    assert CANARY not in place.without_secret(uri)
    assert "host" in place.without_secret(uri) or "127.0.0.1" in place.without_secret(uri)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_what_a_run_keeps_of_its_job_holds_nothing_of_the_environment(name):
    job = recipes.recipe(name)
    kept = recipes.to_json(job) + str(flatten(vars(job)))
    assert CANARY not in kept


def test_what_a_cluster_is_sent_holds_no_secret(tmp_path):
    tree = Tree.of(ROOT)
    tree.write(tmp_path / "tree.zip", {"RAY_AUTH_TOKEN": CANARY})
    with zipfile.ZipFile(tmp_path / "tree.zip") as archive:
        names = archive.namelist()
        assert {"jobs/train.py", "pyproject.toml", "infra/README.md"} <= set(names)
        assert not [name for name in names if CANARY.encode() in archive.read(name)]
    # Nothing that is made along the way is sent: runs, environments, caches.
    assert not [name for name in names if name.split("/")[0] in ("runs", ".venv", ".git")]
