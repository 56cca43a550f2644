"""Submitting to a real cluster of one host, with its dashboard and a token."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from jobs.errors import JobError
from jobs.remote.dashboard import Dashboard

pytestmark = pytest.mark.ray

# Made here: a value that stood in this file would rightly be refused.
TOKEN, SECRET = secrets.token_hex(32), secrets.token_hex(16)
PHOTOS = 3


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def below(pid):
    """Return a process and all that it started, from the table of processes."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


@pytest.fixture(scope="module")
def head():
    """Start the head of a cluster as `infra` does: dashboard on loopback, token on."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lf", dir="/tmp") as scratch:
        environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        # What the cluster has by itself: a job brings its code along.
        environment.pop("PYTHONPATH")
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={free_port()}", "--num-cpus=2"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={scratch}"),
            *(f"--ray-client-server-port={free_port()}", f"--object-store-memory={100 * 2**20}"),
            # Its usual port may belong to another Ray on this machine.
            *("--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}"),
        ]
        with Path(scratch, "head.log").open("w+") as log:
            started = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                wait_for(port, started, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                for pid in reversed(below(started.pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                started.wait()


def wait_for(port, started, log):
    """Wait until the jobs API answers with the token."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    deadline = time.monotonic() + 90
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            log.seek(0)
            assert started.poll() is None, log.read()
            assert time.monotonic() < deadline, log.read()
            time.sleep(0.3)


@pytest.fixture
def place(tmp_path, s3):
    """Return the environment of a user with a store on a disk that the cluster sees."""
    from tests.jobs.test_way import upload

    upload(str(tmp_path / "photos"), PHOTOS)
    return os.environ | {
        "LAFORMER_STORE": str(tmp_path / "store"),
        "LAFORMER_SHARED_DISK": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_AUTH_MODE": "token",
        "MY_PASSWORD": SECRET,
    }


def laformer(*words, environment, **options):
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        **options,
    )


def test_a_verb_runs_there_and_its_log_and_exit_code_come_back(head, place, tmp_path):
    photos = str(tmp_path / "photos")
    words = ("--env", "MY_PASSWORD", "--", "prepare", photos)
    found = laformer("submit", "--address", head, *words, environment=place)
    assert found.returncode == 0, found.stdout + found.stderr
    assert (tmp_path / "store" / "manifest.parquet").exists()
    assert f"{PHOTOS} " in found.stdout
    assert "variables sent: " in found.stdout
    assert ": done, after" in found.stdout
    # The folder is empty now: the second attempt fails, and says so with the job's own code.
    for path in sorted((tmp_path / "photos").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = laformer("submit", "--address", head, *words, environment=place)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "is over (SUCCEEDED); this is attempt 2" in again.stdout
    assert "failed with exit code 1" in again.stdout
    listed = laformer("jobs", "list", "--address", head, environment=place)
    [first, second] = listed.stdout.splitlines()
    assert first.split()[1:2] == ["SUCCEEDED"]
    assert second.split()[1:2] == ["FAILED"]
    shown = laformer("jobs", "show", second.split()[0], "--address", head, environment=place)
    assert "MY_PASSWORD" in shown.stdout
    output = [found, again, listed, shown]
    assert not any(SECRET in each.stdout + each.stderr for each in output)
    assert not any(TOKEN in each.stdout + each.stderr for each in output)


@pytest.mark.parametrize(
    ("token", "message"),
    [("wrong" * 10, "refuses this token"), ("", "wants a token and got none")],
)
def test_without_the_token_nothing_is_done(head, token, message, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    with pytest.raises(JobError, match=message):
        Dashboard.connect(head)
