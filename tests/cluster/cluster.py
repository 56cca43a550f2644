"""The hosts: a head, workers, storage with a proxy that can do harm, MLflow, and a user's desk.

desk      where the tests are: commands that submit, and clients of storage and MLflow
head      Ray without CPUs; drivers run here
worker-N  Ray with three CPUs
storage   Ceph, and before it the proxy that everybody uses
mlflow    the tracking server
"""

import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.cluster import ceph, network
from tests.cluster.ceph import Ceph
from tests.cluster.host import DISK, Host
from tests.cluster.network import Network
from tests.cluster.proxy import Proxy
from tests.hosts import Command

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NUMBERS = {"desk": 1, "head": 10, "storage": 20, "mlflow": 30, "worker-1": 41, "worker-2": 42}
"""The last number of each address."""
BUCKET = "laformer"
CPUS = 3
"""Of each worker: two hosts have room for two training workers after one of them has died."""
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # As in infra/: a host that is gone without a word is noticed in seconds, not in minutes.
    "RAY_grpc_client_keepalive_time_ms": "3000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OMP_NUM_THREADS": "1",
}
OBJECT_STORE = f"--object-store-memory={200 * 2**20}"


def missing():
    """Return why there can be no such cluster on this machine; empty when there can."""
    return network.missing() or ceph.missing()


class Cluster:
    """All of it, started; `close` leaves nothing behind."""

    def __init__(self, *, pinned=False):
        self.pinned = pinned  # each worker host on a core of its own, with one actor
        self.closing = contextlib.ExitStack()
        self.saved, self.hosts = dict(os.environ), {}
        self.skewed = set()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        # A disk, for Ceph writes past the cache; not below /tmp, where Ray leaves its own.
        self.scratch = Path(tempfile.mkdtemp(prefix="laformer-cluster-", dir="/var/tmp"))
        self.closing.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        self.network = Network()
        self.closing.callback(self.network.close)
        addresses = {name: self.network.join(name, n) for name, n in NUMBERS.items()}
        names = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (self.scratch / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        (self.scratch / "record").mkdir()
        self.closing.callback(self._switch_off)
        for name, address in addresses.items():
            if name != "desk":
                self.hosts[name] = Host(name, address, self.scratch)
        self.closing.enter_context(network.entered("desk"))
        self._start_storage()
        self._start_services()

    def _start_storage(self):
        access, secret = secrets.token_hex(10), secrets.token_hex(20)
        storage = self.hosts["storage"]
        self.ceph = Ceph(storage, self.scratch / "ceph")
        self.ceph.create(access, secret)
        with network.entered("storage"):
            self.proxy = Proxy((storage.address, 9000), (storage.address, ceph.PORT))
        self.closing.callback(self.proxy.close)
        self.environment = SETTINGS | {
            "AWS_ENDPOINT_URL": f"http://{storage.address}:9000",
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "LAFORMER_STORE": f"s3://{BUCKET}/runs",
            "LAFORMER_RECORD": str(self.scratch / "record"),
            "MLFLOW_TRACKING_URI": f"http://{self.hosts['mlflow'].address}:5000",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        for name in ("RAY_ADDRESS", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"):
            os.environ.pop(name, None)
        os.environ.update(self.environment)
        import boto3  # after the environment, for it reads it

        boto3.client("s3").create_bucket(Bucket=BUCKET)

    def _start_services(self):
        self.start_mlflow()
        self.start_head()
        for name in self.workers():
            self.start_worker(name)
        self.wait_for_mlflow()
        self.wait_for_workers(len(self.workers()))

    def workers(self):
        return [name for name in self.hosts if name.startswith("worker")]

    @property
    def address(self):
        return f"{self.hosts['head'].address}:6379"

    @property
    def dashboard(self):
        return f"http://{self.hosts['head'].address}:8265"

    def start_mlflow(self):
        host = self.hosts["mlflow"]
        host.start(
            *(BIN / "mlflow", "server", "--host", host.address, "--port", "5000", "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self.scratch}/mlflow.db"),
            *("--artifacts-destination", f"s3://{BUCKET}/mlflow"),
            f"--allowed-hosts={host.address}:5000",
        )

    def wait_for_mlflow(self, seconds=240):
        wait_for(f"{os.environ['MLFLOW_TRACKING_URI']}/health", seconds)

    def start_head(self):
        host = self.hosts["head"]
        host.start(
            *(BIN / "ray", "start", "--head", "--block", "--num-cpus=0", OBJECT_STORE),
            *(f"--node-ip-address={host.address}", "--port=6379", f"--temp-dir={DISK}/ray"),
            *(f"--dashboard-host={host.address}", "--dashboard-port=8265"),
        )
        wait_for(f"{self.dashboard}/api/version", 180)

    def start_worker(self, name, **environment):
        host, cpus, core = self.hosts[name], CPUS, ()
        if self.pinned:
            cpus, core = 2, ("taskset", "--cpu-list", str(self.workers().index(name)))
        host.start(
            *(*core, BIN / "ray", "start", "--block", f"--address={self.address}"),
            f"--num-cpus={cpus}",
            *(f"--node-ip-address={host.address}", OBJECT_STORE),
            **environment,
        )

    def alive(self):
        """Return address and id of the nodes that Ray counts, rightly or not."""
        # Not through Ray, which has read in this process how to prove itself before we said so.
        request = urllib.request.Request(
            f"{self.dashboard}/api/v0/nodes?limit=100",
            headers={"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)["data"]["result"]["result"]
        return [(node["node_ip"], node["node_id"]) for node in found if node["state"] == "ALIVE"]

    def wait_for_workers(self, number, seconds=180):
        deadline = time.monotonic() + seconds
        while len(self.alive()) != number + 1:
            assert time.monotonic() < deadline, f"{self.alive()} are not {number} workers"
            time.sleep(0.3)

    def restore_hosts(self):
        """Bring back what a fault took away, so that the next one finds all as it was."""
        self.proxy.heal()
        for name in self.hosts:
            self.network.heal(name)
        head = self.hosts["head"]
        if not head.pids("gcs_server"):
            for name in ("head", *self.workers()):
                self.reboot(name)
            self.start_head()
        addresses = [address for address, _ in self.alive()]
        for name in self.workers():
            host = self.hosts[name]
            if name in self.skewed or host.address not in addresses or not host.pids("raylet"):
                self.reboot(name)
                self.start_worker(name)
            else:
                host.run("rm", "-f", f"{DISK}/full")
        self.skewed.clear()
        if not self.hosts["mlflow"].pids("mlflow"):
            self.start_mlflow()
            self.wait_for_mlflow()
        self.wait_for_workers(len(self.workers()))

    def reboot(self, name):
        self.hosts[name].kill()
        self.hosts[name].boot()

    def drive(self, *words, **environment):
        """Start a command on the head, with a Ray to join."""
        surroundings = self.hosts["head"].surroundings(RAY_ADDRESS=self.address, **environment)
        return Command(*words, prefix=self.hosts["head"].entry, **surroundings)

    def announce(self, name, seconds):
        """Say, as a cloud does, that a host will be taken away."""
        node = dict(self.alive())[self.hosts[name].address]
        self.hosts["head"].run(
            *(BIN / "ray", "drain-node", "--address", self.address, "--node-id", node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken away"),
            *("--deadline-remaining-seconds", str(seconds)),
        )

    def logs(self):
        """Return the end of what each host has said, for a failure to show."""
        files = sorted(self.scratch.glob("*.log"))
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-1500:]}" for f in files)

    def _switch_off(self):
        for host in self.hosts.values():
            host.kill()
        with contextlib.suppress(OSError):
            DISK.rmdir()

    def close(self):
        self.closing.close()
        os.environ.clear()
        os.environ.update(self.saved)


def wait_for(url, seconds):
    """Wait until a server answers anything below 500."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:  # it wants the token
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.3)
