"""Run a command against an S3 server of its own, on this machine, gone afterwards.

    python infra/local_s3.py -- laformer demo

The command gets nothing but environment variables: AWS_ENDPOINT_URL, credentials,
LAFORMER_STORE=s3://demo and a tracking database of its own. The server is moto's, in this process:
it listens on loopback, keeps everything in memory and forgets it, and so is the database. It is
no place for anything that should last; what the command writes to the working folder stays.
"""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "demo"


def main(command: list[str]) -> int:
    """Start the server, run the command, stop the server; return the command's exit code."""
    if not command:
        sys.exit("usage: python infra/local_s3.py -- COMMAND ...")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "LAFORMER_STORE": f"s3://{BUCKET}",
    }
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE", "RAY_ADDRESS"):
        os.environ.pop(name, None)  # they would lead to another store or another machine
    os.environ.update(environment)
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        print(f"S3 server at {environment['AWS_ENDPOINT_URL']}, bucket {BUCKET}, in memory")
        with tempfile.TemporaryDirectory() as scratch:
            # Models would outlive the bucket that holds them.
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(scratch) / 'mlflow.db'}"
            return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 130
    finally:
        server.stop()
        print("S3 server stopped", file=sys.stderr)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(arguments[1:] if arguments[:1] == ["--"] else arguments))
