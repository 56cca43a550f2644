"""Every fault that a cluster can have, injected into a job, and what is left of the job.

    python -m tests.perf.faults                      all of them
    python -m tests.perf.faults --only host-killed   some, by name; --list shows the names

The cluster is one of namespaces on this machine (tests/cluster), so it needs root, Linux and the
packages of Ceph. A count is lost/duplicated/corrupt: samples of the steps that made the weights
(corrupt: weights and optimiser state that are not those of an undisturbed run, byte by byte),
photos (corrupt: other bytes than an undisturbed restoration wrote), complete checkpoints. The last
line is JSON.
"""

import argparse
import json
import signal
import sys
import time
from contextlib import closing

from tests.cluster import cluster
from tests.cluster.cluster import Cluster
from tests.cluster.rows import ROWS, run
from tests.cluster.work import Work

COLUMNS = ("fault", "job", "samples", "photos", "checkpoints", "stalled", "harmed", "s", "verdict")
WIDTHS = (22, 8, 14, 12, 12, 8, 12, 5, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="names the requests that are harmed")
    parser.add_argument("--list", action="store_true", help="show the names and end")
    asked = parser.parse_args()
    if asked.list:
        for name, row in ROWS.items():
            print(f"{name:22} {row.words}, during {row.job}")
        return 0
    if why := cluster.missing():
        print(f"not run: {why}")
        print(json.dumps({"rows": 0, "not_run": len(asked.only), "reason": why}))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the hosts' files would stay
    began, found = time.monotonic(), {}
    with closing(Cluster()) as made, closing(Work(made, seed=asked.seed)) as work:
        print(f"the cluster is up after {time.monotonic() - began:.0f} s", flush=True)
        work.begin()
        print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
        print(line(COLUMNS), flush=True)
        for name in asked.only:
            found[name] = run(work, ROWS[name], name)
            print(line(cells(name, found[name])), flush=True)
    print(json.dumps(summary(found, time.monotonic() - began)))
    return 0 if all(each.ok for each in found.values()) else 1


def line(values):
    return " ".join(
        f"{value:{width}}" for value, width in zip(values, WIDTHS, strict=True)
    ).rstrip()


def cells(name, outcome):
    stalled = "" if outcome.stalled_s is None else f"{outcome.stalled_s:.1f} s"
    tallies = map(str, outcome.tallies)
    ended = (stalled, outcome.harmed, f"{outcome.seconds:.0f}", outcome.verdict)
    return (name, ROWS[name].job, *tallies, *ended)


def summary(found, seconds):
    """Return the table as one flat object."""
    ran = [each for each in found.values() if each.ran]
    numbers = {
        "rows": len(found),
        "held": sum(each.ok for each in ran),
        "not_run": len(found) - len(ran),
        "seconds": round(seconds),
    }
    for kind in ("lost", "duplicated", "corrupt"):
        numbers[kind] = sum(getattr(tally, kind) for each in ran for tally in each.tallies)
    for name, each in found.items():
        numbers[name] = each.verdict
        if each.stalled_s is not None:
            numbers[f"{name}.stalled_s"] = round(each.stalled_s, 1)
    return numbers


if __name__ == "__main__":
    sys.exit(main())
