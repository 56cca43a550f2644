"""The batch restoration beside a bare loop, its memory, and what a restart costs.

    python -m tests.perf.restore

The limit is one process per device that does nothing else: the same network (`tiny`, random
weights), the same files on the same disk, the same torch threads. Speeds are from the first images
done to the last, so that neither side pays for its start. It begins with an estimate of its time,
about an hour and a half for all of it on two quiet cores: most of that are the 200 photos
(`--photos`) and the 100 megapixels. `--parts` does some of it alone. What was not measured is null
in the last line.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipelines import inventory, parts, receipts
from tests.perf import measure, peaks, race
from tests.perf.actor import CORES, Load, photo, save

PARTS = ("race", "peaks", "ways", "skip")
NUM_KEYS = 100_000
FULL = {"mixes": ("2 MP", "0.25 MP", "mixed", "mixed, small"), "sizes": (1, 10, 100), "ways_mp": 4}
QUICK = {"mixes": ("mixed, small",), "sizes": (1,), "rounds": 1}


@measure.in_recycled_memory
def main():
    arguments = parsed()
    torch.set_num_threads(CORES)
    found = dict.fromkeys(
        (
            "throughput_vs_bare_loop",
            "throughput_vs_bare_loop_small",
            "peak_gb_100mp",
            "tiles_time_vs_stripes",
            "tiles_memory_vs_stripes",
            "skip_100k_s",
        )
    )
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(folder / "model")
        print(f"{measure.machine()}; {CORES} torch threads")
        estimate(folder, arguments)
        for part in arguments.parts:
            began = time.perf_counter()
            found |= {key: round(x, 3) for key, x in STEPS[part](folder, arguments).items()}
            print(f"({part}: {time.perf_counter() - began:.0f} s)\n", flush=True)
    missing = [key for key, value in found.items() if value is None]
    if missing:
        print(f"not measured by these options: {', '.join(missing)}")
    print(json.dumps(found | {"seconds": round(time.perf_counter() - started)}))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small photos, about a minute")
    parser.add_argument("--photos", type=int, default=200, help="photos of 2 megapixels")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="all by default")
    parser.add_argument("--rounds", type=int, help="of each mix")
    parser.add_argument("--mixes", nargs="+", choices=race.MIXES, help="to race on")
    parser.add_argument(
        "--sizes", nargs="*", type=int, choices=peaks.BUDGETS_GB, help="MP of peaks"
    )
    parser.add_argument("--ways-mp", type=int, help="megapixels of tiles against stripes")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.photos = min(arguments.photos, 24)
    arguments.parts = arguments.parts or (("race", "skip") if arguments.quick else PARTS)
    for name, value in (FULL | (QUICK if arguments.quick else {})).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


def estimate(folder, arguments):
    """Print how long all of this is going to take, from one photo restored now."""
    restore = Load(folder / "model")()
    one = photo(np.random.default_rng(0), 512, 512)
    restore(one)
    began = time.perf_counter()
    restore(one)
    per_mp = (time.perf_counter() - began) / 0.262
    mp = {"skip": 0.0, "race": race.megapixels(arguments.mixes, arguments.photos, arguments.rounds)}
    mp |= {"peaks": peaks.megapixels(arguments.sizes)}
    mp |= {"ways": 2 * len(peaks.WAYS) * arguments.ways_mp}
    minutes = {part: (mp[part] * per_mp * 1.3 + 20) / 60 for part in arguments.parts}
    told = ", ".join(f"{part} {each:.1f}" for part, each in minutes.items())
    print(f"estimated minutes: {told}; together {sum(minutes.values()):.1f}\n", flush=True)


def run_race(folder, arguments):
    """Return ratios of our speed over that of the bare loop."""
    ratios = race.race(folder, arguments.mixes, arguments.photos, arguments.rounds)
    names = {"2 MP": "throughput_vs_bare_loop", "mixed, small": "throughput_vs_bare_loop_small"}
    return {key: ratios[name] for name, key in names.items() if name in ratios}


def run_peaks(folder, arguments):
    """Return the peak of the largest photo."""
    found = peaks.peaks(folder / "model", arguments.sizes)
    return {"peak_gb_100mp": found[peaks.GOAL]} if peaks.GOAL in found else {}


def run_ways(folder, arguments):
    """Return what tiles cost beside stripes."""
    found = peaks.ways(folder / "model", arguments.ways_mp)
    time_ratio, memory_ratio = (
        found["tiles 512/64"][key] / found["stripes"][key] for key in peaks.COMPARED
    )
    return {"tiles_time_vs_stripes": time_ratio, "tiles_memory_vs_stripes": memory_ratio}


def run_skip(folder, arguments):
    """Return the seconds that a start takes to find that all of a large job is finished."""
    skipped = skip(folder / "skip")
    print(f"{NUM_KEYS:,} finished keys on disk skipped in {skipped:.1f} s")
    return {"skip_100k_s": skipped}


STEPS = {"race": run_race, "peaks": run_peaks, "ways": run_ways, "skip": run_skip}


def skip(folder):
    """Return the seconds that a start takes to find that all of a large job is finished."""
    from jobs.restore import settled, take_over

    keys = [f"{i // 1000:03}/{i:06}.png" for i in range(NUM_KEYS)]
    for start in range(0, NUM_KEYS, 1000):
        (folder / "in" / keys[start][:3]).mkdir(parents=True)
    for key in keys:
        os.mknod(f"{folder}/in/{key}")
    # Results have the names of their photos: one folder serves as both, and is listed twice.
    (folder / "out").symlink_to(folder / "in")
    source, target = str(folder / "in"), str(folder / "out")
    items = inventory.take(source).table
    ledger = receipts.Ledger(target, {"source": source, "model": "m/1"})
    began = ledger.begin(again=False)
    empty = pa.repeat(pa.scalar(""), NUM_KEYS)
    known = {name: items[name] for name in ("key", "target_key", "etag")}
    known |= {"status": pa.repeat(pa.scalar("restored"), NUM_KEYS), "out_bytes": items["num_bytes"]}
    known |= {"sha256": pa.array([f"{i:064x}" for i in range(NUM_KEYS)]), "reason": empty}
    table = parts.conform(pa.table(known), receipts.SCHEMA)
    for start in range(0, NUM_KEYS, 500):
        began.parts.write(table.slice(start, 500))
    started = time.perf_counter()
    items = inventory.take(source).table
    take_over(ledger, items, target, replace=False)
    found = settled(ledger.begin(again=False), items, target, verify=False)
    if receipts.without(items, found).num_rows:
        raise RuntimeError("finished images were not recognised")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
