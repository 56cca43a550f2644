"""Random faults for half an hour: jobs that end, and nothing lost.

    python -m tests.perf.soak                 30 minutes
    python -m tests.perf.soak --minutes 3

Job after job, each meets a fault of the table (tests/cluster/rows.py) at a random moment, and one
in three a second, light one of storage beside it. The seed names all that is drawn. The last line
is JSON.
"""

import argparse
import dataclasses
import json
import random
import signal
import sys
import time
from contextlib import closing

from tests.cluster import cluster
from tests.cluster.cluster import Cluster
from tests.cluster.proxy import Plan
from tests.cluster.rows import ROWS, run
from tests.cluster.work import Work

BESIDE = (("503", 0.05), ("reset", 0.05), ("hang", 0.01))
"""Kinds and rates of the second fault."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if why := cluster.missing():
        print(f"not run: {why}")
        print(json.dumps({"jobs": 0, "reason": why}))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the hosts' files would stay
    found, rng = [], random.Random(asked.seed)
    with closing(Cluster()) as made, closing(Work(made, seed=asked.seed)) as work:
        work.begin()
        over = time.monotonic() + 60 * asked.minutes
        while time.monotonic() < over:
            found.append(one(work, rng, len(found)))
    numbers = {"jobs": len(found), "held": sum(each.ok for each in found), "seed": asked.seed}
    for kind in ("lost", "duplicated", "corrupt"):
        numbers[kind] = sum(getattr(tally, kind) for each in found for tally in each.tallies)
    print(json.dumps(numbers))
    return 0 if numbers["held"] == numbers["jobs"] else 1


def one(work, rng, number):
    """Let one job meet what is drawn for it."""
    fault, moment = rng.choice(list(ROWS)), rng.uniform(0.1, 0.8)
    beside = rng.choice(BESIDE) if rng.random() < 1 / 3 else None
    row = dataclasses.replace(ROWS[fault], moment=moment)
    if beside and not row.before:
        work.cluster.proxy.harm(Plan(*beside, seed=rng.randrange(2**31)))
    outcome = run(work, row, f"soak-{number}")
    more = f" and {beside[1]:.0%} of {beside[0]}" if beside and not row.before else ""
    print(f"{number:3} {fault}{more}, during {row.job}: {outcome.verdict}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
