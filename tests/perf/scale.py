"""What a manifest of many images costs a process, and what that comes to at a billion.

    python -m tests.perf.scale

Costs per row are measured on manifests of 10^5 and 10^6 rows; what is printed beyond is their
product with the number of rows, for all of them grow in proportion.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import manifest
from pipelines.plan import Plan
from pipelines.sources import COLUMNS

SIZES = (10**5, 10**6)
BEYOND = (10**7, 10**8, 10**9)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="10^5 rows alone")
    sizes = SIZES[:1] if arguments.parse_args().quick else SIZES
    with tempfile.TemporaryDirectory() as scratch:
        costs = [measured(num, Path(scratch)) for num in sizes]
    costs[-1]["locate_us"] = max(locate_us(num) for num in (10**3, 10**9))
    print(f"{'':<34}" + "".join(f"{f'{num:.0e}':>12}" for num in (*sizes, *BEYOND)))
    for name, unit in ROWS.items():
        per_row = costs[-1][name]
        found = [cost[name] * num for cost, num in zip(costs, sizes, strict=True)]
        found += [per_row * num for num in BEYOND]
        shown = [f"{value / SCALE[unit]:.3g} {unit}" for value in found]
        print(f"{LABELS[name]:<34}" + "".join(f"{text:>12}" for text in shown))
    print(f"finding the image of a sample: {costs[-1]['locate_us']:.0f} us, of 10^3 or 10^9 images")
    print(json.dumps({name: round(value, 3) for name, value in costs[-1].items()}))


ROWS = {
    "file_bytes": "GB",
    "read_bytes": "GB",
    "kept_bytes": "GB",
    "start_us": "s",
    "write_us": "s",
}
LABELS = {
    "file_bytes": "manifest in storage",
    "read_bytes": "its table, while it is read",
    "kept_bytes": "what a reading process keeps",
    "start_us": "start of a reading process, CPU",
    "write_us": "split and write, CPU",
}
SCALE = {"GB": 1e9, "s": 1e6}


def measured(num, folder):
    """Return the costs of one row of a manifest of `num`."""
    uri = str(folder / f"{num}.parquet")
    rows = table(num)
    start = time.process_time()
    manifest.write(manifest.Manifest("s3://bucket/photos", manifest.with_split(rows, 0.01)), uri)
    write_us = 1e6 * (time.process_time() - start)
    start = time.process_time()
    # What pipelines.sources does, once per process.
    found = manifest.read(uri)
    found.digest()
    kept = found.usable("train", min_px=128).select(COLUMNS).combine_chunks()
    start_us = 1e6 * (time.process_time() - start)
    costs = {"file_bytes": Path(uri).stat().st_size, "read_bytes": found.table.nbytes}
    costs |= {"kept_bytes": kept.nbytes, "start_us": start_us, "write_us": write_us}
    return {name: cost / num for name, cost in costs.items()}


def table(num):
    """Return rows like those of a bucket of photos: keys in folders, etags that do not compress."""
    rng = np.random.default_rng(0)
    tags = rng.bytes(16 * num)
    columns = {
        "key": pa.array([f"2026/{row % 1000:03d}/photo_{row:09d}.jpg" for row in range(num)]),
        "etag": pa.array([tags[16 * row : 16 * row + 16].hex() for row in range(num)]),
        "num_bytes": pa.array(rng.integers(10**6, 5 * 10**6, num)),
        "height": pa.array(rng.integers(1000, 3000, num, np.int32)),
        "width": pa.array(rng.integers(1000, 4000, num, np.int32)),
        "channels": pa.repeat(pa.scalar(3, pa.int8()), num),
        "bits": pa.repeat(pa.scalar(8, pa.int8()), num),
        "status": pa.repeat(pa.scalar("ok"), num),
    }
    return manifest.complete(num, columns)


def locate_us(num_images):
    """Return the microseconds of finding out which image a sample is cut from."""
    plan = Plan(seed=0, source_images=(num_images,), global_batch=1024)
    sample_ids = [
        int(sample_id) for sample_id in np.random.default_rng(1).integers(0, 10**12, 2000)
    ]
    start = time.process_time()
    for sample_id in sample_ids:
        plan.locate(sample_id)
    return 1e6 * (time.process_time() - start) / len(sample_ids)


if __name__ == "__main__":
    main()
