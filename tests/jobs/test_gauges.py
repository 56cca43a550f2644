"""Numbers of a job where Prometheus scrapes them."""

import contextlib
import ipaddress
import os
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from jobs.gauges import TRAINING, Gauges
from pipelines import retries
from tests.hosts import descendants

pytestmark = pytest.mark.ray
PATIENCE_S = 60.0
LISTENING = "0A"
"""State of a socket in the kernel's tables."""


def test_numbers_of_a_run_can_be_scraped_under_its_name(cluster):
    gauges = Gauges("night", TRAINING)
    gauges.show({"samples_per_s": 12.0, "val_psnr_db.gaussian-colour": 30.0})
    gauges.show({"samples_per_s": 13.5})
    retries.count()
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + PATIENCE_S
    found, again = [], []
    while not (found and again) and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
        found = [line for line in lines if 'job_name="night"' in line]
        again = [line for line in lines if line.startswith(f"ray_{retries.NAME}_total{{")]
    (line,) = found
    assert line.startswith("ray_laformer_samples_per_s{")
    assert line.endswith(" 13.5")


def test_nobody_else_reaches_the_ray_that_a_job_starts_for_itself(cluster):
    pids = [os.getpid(), *descendants([os.getpid()])]
    found = {address for pid in pids for address in listening(pid)}
    assert found
    loopback = {"127.0.0.1", "::1", "::ffff:7f00:1", "::ffff:127.0.0.1"}
    assert {str(address) for address in found} <= loopback


def listening(pid):
    """Yield the addresses on which a process waits for connections."""
    own = set()
    for file in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):
            own.add(str(file.readlink()))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in own:
                # Words of four bytes, each the other way round.
                words = [bytes.fromhex(w)[::-1] for w in re.findall(".{8}", local.split(":")[0])]
                yield ipaddress.ip_address(b"".join(words))
