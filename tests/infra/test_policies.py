"""What the policies of infra/ allow, against a server that holds to them."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import boto3
import pytest

from pipelines import storage
from pipelines.errors import StorageError

FOLDER = Path(__file__).parents[2] / "infra" / "policies"
POLICIES = sorted(path.stem for path in FOLDER.glob("*.json"))
STORE, PHOTOS, RESTORED = "laformer-store", "laformer-photos", "laformer-restored"
KEYS = {
    PHOTOS: ("originals/1.png",),
    STORE: (
        "laformer/manifest.parquet",
        "laformer/manifest.parquet.parts/1.parquet",
        "laformer/tiles/1.arrow",
        "laformer/train/run/step_00000001/weights.safetensors",
        "laformer/tune/search/trials.json",
        "laformer/mlflow/1/model/weights.safetensors",
    ),
    RESTORED: ("originals/1.png", "originals/.laformer/1/part-1.parquet"),
}
READS = {
    "prepare": ("originals/", "laformer/manifest", "laformer/tiles/"),
    "train": ("originals/", "laformer/manifest", "laformer/t"),
    "restore": ("originals/",),
    "mlflow": ("laformer/mlflow/",),
}
"""Beginnings of the keys that each may read; only restore reads its results."""
WRITES = {
    "prepare": ("laformer/manifest", "laformer/tiles/"),
    "train": ("laformer/train/", "laformer/tune/"),
    "restore": ("originals/",),
    "mlflow": ("laformer/mlflow/",),
}
DELETES = {
    "prepare": ("laformer/manifest.parquet.parts/",),
    "train": WRITES["train"],
    "restore": (),
    "mlflow": WRITES["mlflow"],
}


def policy(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_names_every_right_and_every_place(name):
    assert policy(name)["Version"] == "2012-10-17"
    for statement in policy(name)["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        assert all(action.startswith("s3:") for action in statement["Action"])
        assert not any("*" in action for action in statement["Action"])
        for resource in statement["Resource"]:
            bucket = resource.removeprefix("arn:aws:s3:::").partition("/")[0]
            assert bucket in KEYS
            listing = any("List" in each or "Location" in each for each in statement["Action"])
            assert "/" in resource or listing


@pytest.fixture(scope="module")
def users():
    """Start a server that checks rights; return the environment of a user for each policy."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(url, server)
            found = {name: made(url, name) for name in (*POLICIES, "owner")}
            closed(url)
            yield found
        finally:
            server.kill()


def wait_for(url, server):
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
                return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)


HEAD = {"Effect": "Allow", "Action": ["s3:HeadBucket"], "Resource": "*"}
"""moto's own right: Amazon and Ceph ask for s3:ListBucket there."""
ALL = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "*"}


def client(service, url):
    keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin"}
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", **keys)


def made(url, name):
    """Make a user who has one policy, and what is there to be read, while all may do all."""
    iam, s3 = client("iam", url), client("s3", url)
    iam.create_user(UserName=name)
    given = policy(name) if name in POLICIES else {"Version": "2012-10-17", "Statement": []}
    given["Statement"].append(HEAD if name in POLICIES else ALL)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(given))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    for bucket in KEYS:
        s3.create_bucket(Bucket=bucket)
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def closed(url):
    """Let the server check every request from now on."""
    request = urllib.request.Request(
        f"{url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request, timeout=5):
        pass


@pytest.mark.s3
@pytest.mark.parametrize("name", POLICIES)
def test_a_user_may_do_its_work_and_nothing_else(name, users, monkeypatch):
    for unwanted in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(unwanted, raising=False)
    become(users["owner"], monkeypatch)
    for bucket, keys in KEYS.items():
        for key in keys:
            storage.put(f"s3://{bucket}/{key}", b"there")
    become(users[name], monkeypatch)
    for bucket, keys in KEYS.items():
        for key in keys:
            uri = f"s3://{bucket}/{key}"
            own = bucket != RESTORED or name == "restore"
            writable = bucket == {"restore": RESTORED}.get(name, STORE)
            assert allowed(storage.get, uri) == (own and key.startswith(READS[name])), uri
            may = writable and key.startswith(WRITES[name])
            assert allowed(lambda there: storage.put(there, b"there"), uri) == may, uri
            may = writable and key.startswith(DELETES[name])
            assert allowed(storage.delete, uri) == may, uri


def become(user, monkeypatch):
    for name, value in user.items():
        monkeypatch.setenv(name, value)


def allowed(work, uri):
    """Tell whether the server let something be done."""
    try:
        work(uri)
    except StorageError as error:
        if "refuses these credentials" in str(error):
            return False
        raise
    return True


@pytest.mark.s3
def test_training_makes_its_folders_with_its_own_rights(users):
    from pyarrow import fs

    env = users["train"]
    own = fs.S3FileSystem(
        access_key=env["AWS_ACCESS_KEY_ID"],
        secret_key=env["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=env["AWS_ENDPOINT_URL"],
        region="us-east-1",
    )
    own.create_dir(f"{STORE}/laformer/train/new/run", recursive=True)
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        own.create_dir(f"{STORE}/elsewhere/new", recursive=True)
