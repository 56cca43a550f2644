"""Hosts of a cluster that are processes of this machine, and commands that train on them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

WORKER = b"RayTrainWorker"
"""In the name of the process of a training worker."""
HEAD = {"num_cpus": 0, "include_dashboard": False}  # another cluster may have the port


class Hosts:
    """A head without CPUs, where the command runs, and hosts that come and go."""

    def __init__(self):
        self.cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        self.address = self.cluster.address

    def add(self, num_cpus):
        return self.cluster.add_node(num_cpus=num_cpus)

    def with_workers(self):
        """Return the hosts that training workers run on."""
        return [n for n in self.cluster.worker_nodes if any(map(is_worker, processes(n)))]

    def kill(self, host):
        """SIGKILL all that runs on a host, at once."""
        for pid in [*host_pids(host), *processes(host)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def announce(self, host, seconds):
        """Say, as a cloud does, that a host will be taken away."""
        command = [Path(sys.executable).with_name("ray"), "drain-node", "--address", self.address]
        command += ["--node-id", host.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "taken away"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, check=True, capture_output=True)

    def close(self):
        self.cluster.shutdown()


def host_pids(host):
    return [each.process.pid for kind in host.all_processes.values() for each in kind]


def processes(host):
    return descendants(host_pids(host))


def descendants(pids):
    """Return what processes have started, and what these have."""
    found, parents = [], set(pids)
    while parents:
        running = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        parents = {pid for pid in running if parent(pid) in parents}
        found += parents
    return found


def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_worker(pid):
    try:
        return WORKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Command:
    """A command that runs, and what it has said and when."""

    def __init__(self, *words, prefix=(), **environment):
        self.lines, self.times_s = [], []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
            start_new_session=True,  # a signal to its group is what Ctrl-C is
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.times_s.append(time.time())
            self.lines.append(line.rstrip())

    def said(self, text, seconds=120, start=0):
        """Wait for a line with this text; return its number."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            over = self.process.poll() is not None
            for number, line in enumerate(self.lines[start:], start):
                if text in line:
                    return number
            assert not over, f"ended without {text!r}:\n{self}"
            time.sleep(0.05)
        raise AssertionError(f"no {text!r} within {seconds} s:\n{self}")

    def ended(self, seconds=120):
        """Wait for the end; return the exit code."""
        code = self.process.wait(seconds)
        self.reader.join(10)
        return code

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.reader.join(10)
        self.process.stdout.close()

    def __str__(self):
        return "\n".join(self.lines)
