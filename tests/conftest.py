"""Fixtures of all tests: real images, one local Ray, one local S3 server."""

import os
import secrets
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# Two runs of `make test` try the same examples; `make test-all` looks for new ones.
settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("repeat")

# Ray and its workers read these when they start; a test never talks to anything beyond loopback.
os.environ |= {
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    "OMP_NUM_THREADS": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Workers import functions of test modules by name.
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
}
for name in ("RAY_ADDRESS", "LAFORMER_STORE", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of real images beside the repository; without it the test is skipped.

    LAFORMER_REQUIRE_DATA=1 makes its absence a failure, where the data is meant to be present.
    """
    folder = ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if os.environ.get("LAFORMER_REQUIRE_DATA") == "1":
        pytest.fail(f"LAFORMER_REQUIRE_DATA=1, but there is no folder {folder}")
    pytest.skip(f"no real images: there is no folder {folder}")


@pytest.fixture(scope="session")
def cluster(s3):
    """Start one local Ray for all tests, as the jobs would start it.

    The S3 server comes first: workers inherit its address from the environment.
    """
    from jobs.cluster import connected

    with connected() as joined:
        yield joined


@pytest.fixture(scope="session")
def s3():
    """Start an S3 server on loopback, in this process; return the uri of an empty bucket."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        # test_way.py looks for them in all that is left.
        "AWS_ACCESS_KEY_ID": f"canary{secrets.token_hex(16)}",
        "AWS_SECRET_ACCESS_KEY": f"canary{secrets.token_hex(16)}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    boto3.client("s3").create_bucket(Bucket="tests")
    yield "s3://tests"
    server.stop()
