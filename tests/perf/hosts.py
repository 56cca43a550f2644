"""How much faster two hosts restore than one, each on a core of its own, and what 503s cost.

    python -m tests.perf.hosts

Three restorations of the same photos with `tiny` (weights of a start, which take as long as any):
by two worker hosts, by two while one request in ten is answered 503, by one. The store, the proxy
before it and the driver take their share of the same two cores. Times are between a fifth and the
whole of the photos, so starting does not count. The last line is JSON.
"""

import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from laformer import checkpoint
from laformer.config import SIZES
from laformer.loop import State
from laformer.model import LAformer
from pipelines import storage
from tests import networks
from tests.cluster import cluster
from tests.cluster.cluster import BUCKET, Cluster
from tests.cluster.proxy import Plan
from tests.cluster.work import LIMIT_S, NOISY, Work, upload

MODEL = f"s3://{BUCKET}/model"
PHOTOS, SIDE_PX = 120, 256
FROM = PHOTOS // 5


def main():
    if why := cluster.missing():
        print(f"not run: {why}")
        print(json.dumps({"reason": why}))
        return 0
    with closing(Cluster(pinned=True)) as made, closing(Work(made)) as work:
        upload(NOISY, PHOTOS, SIDE_PX, SIDE_PX)
        store_model()
        two = speed(work, "two-hosts")
        made.proxy.harm(Plan("503", 0.1))
        throttled = speed(work, "two-hosts-503")
        told = f"{sum(made.proxy.harmed.values())} of {sum(made.proxy.requests.values())}"
        made.proxy.heal()
        made.hosts[made.workers()[-1]].kill()
        made.wait_for_workers(1)
        one = speed(work, "one-host")
    print(f"two hosts {two:.2f} photos/s, one {one:.2f}: {two / one:.2f} times as fast")
    print(f"with 503s ({told} requests) {throttled:.2f} photos/s: {1 - throttled / two:.0%} less")
    numbers = {"two_hosts_photos_per_s": two, "one_host_photos_per_s": one}
    numbers |= {"speedup": two / one, "with_503_photos_per_s": throttled}
    numbers["cost_of_503"] = 1 - throttled / two
    print(json.dumps({name: round(value, 3) for name, value in numbers.items()}))
    return 0


def store_model():
    """Keep weights of a start where every host can read them."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        state = State.create(LAformer(SIZES["tiny"]), networks.config())
        checkpoint.save(Path(folder), state, {})
        for file in Path(folder).iterdir():
            storage.put(f"{MODEL}/{file.name}", file.read_bytes())


def speed(work, name):
    """Return photos per second."""
    target = f"s3://{BUCKET}/{name}"
    command = work.start("jobs.cli", "restore", NOISY, target, "--model", MODEL)
    work.restored(command, name, FROM)
    begun, began_s = len(storage.list_entries(target, (".png",))), time.monotonic()
    assert command.ended(LIMIT_S) == 0, command
    found = (PHOTOS - begun) / (time.monotonic() - began_s)
    print(f"{name}: {found:.2f} photos/s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
