"""Numbers of a job where Prometheus scrapes them."""

import time
import urllib.request

import pytest
import ray

from jobs.gauges import TRAINING, Gauges

pytestmark = pytest.mark.ray
PATIENCE_S = 60.0


def test_numbers_of_a_run_can_be_scraped_under_its_name(cluster):
    gauges = Gauges("night", TRAINING)
    gauges.show({"samples_per_s": 12.0, "val_psnr_db.gaussian-colour": 30.0})
    gauges.show({"samples_per_s": 13.5})
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + PATIENCE_S
    found = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.5)
        lines = urllib.request.urlopen(url, timeout=10).read().decode().splitlines()
        found = [line for line in lines if 'job_name="night"' in line]
    (line,) = found
    assert line.startswith("ray_laformer_samples_per_s{")
    assert line.endswith(" 13.5")
