"""Whole images against stripes: time, peak memory and the largest difference.

    python -m tests.perf.stripes [--quick]

Times are CPU seconds of one thread, medians of interleaved rounds; memory is what a process of
its own grows by. The last line is one JSON object: the worst of the table for each key.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

from laformer.config import SIZES
from laformer.model import LAformer
from laformer.stripes import restore_in_stripes

ROOT = Path(__file__).parents[2]
THREADS = 1
QUICK = (("tiny", 678, 1020), ("small", 256, 256))
FULL = (
    ("tiny", 512, 512),
    ("tiny", 678, 1020),
    ("tiny", 1356, 2040),
    ("small", 512, 512),
    ("small", 678, 1020),
    ("small", 1356, 2040),
)


def network(size):
    """Return a network whose blocks do something, in the layout in which images are restored."""
    torch.manual_seed(0)
    model = LAformer(SIZES[size]).to(memory_format=torch.channels_last)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return model


def grown_bytes(size="tiny", *, height, width, memory_bytes=None, stripe_rows=None):
    """Return by how much this process grows at most while it restores one image.

    The whole image at once, unless a budget or a height makes it stripes; stripe_rows=0 leaves
    the height to the plan. A small image comes before, so that libraries are loaded.
    """
    torch.set_num_threads(THREADS)
    model = network(size)

    def restore(lq, budget):
        if memory_bytes is None and stripe_rows is None:
            return model(lq)
        return restore_in_stripes(model, lq, memory_bytes=budget, stripe_rows=stripe_rows or None)

    with torch.inference_mode():
        restore(torch.rand(1, 3, 64, 64), None)
        lq = torch.rand(1, 3, height, width)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again at VmRSS
        before = resident("VmRSS")
        restore(lq, memory_bytes)
        return resident("VmHWM") - before


def resident(field):
    """Return a field of this process's memory status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_bytes(*, environment=None, **options):
    """Return grown_bytes(**options) of a process of its own."""
    code = (
        "import json, sys; from tests.perf.stripes import grown_bytes; "
        "print(grown_bytes(**json.loads(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, json.dumps(options)]
    env = os.environ | (environment or {})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)


def compare(size, height, width, rounds):
    """Return seconds of both, bytes of both and the largest difference."""
    model = network(size)
    lq = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    seconds = {"whole": [], "stripes": []}
    with torch.inference_mode():
        restore_in_stripes(model, lq[..., :64, :64])
        for _ in range(rounds):
            start = time.process_time()
            whole = model(lq)
            middle = time.process_time()
            striped = restore_in_stripes(model, lq)
            seconds["whole"].append(middle - start)
            seconds["stripes"].append(time.process_time() - middle)
    image = {"size": size, "height": height, "width": width}
    return {
        "seconds": [statistics.median(values) for values in seconds.values()],
        "bytes": [peak_bytes(**image), peak_bytes(**image, stripe_rows=0)],
        "difference": float((whole - striped).abs().max() / whole.abs().max().clamp(min=1)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="under a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(THREADS)
    print(f"{THREADS} thread, float32, channels_last; CPU s and MB, whole / stripes")
    results = []
    for size, height, width in QUICK if quick else FULL:
        found = compare(size, height, width, rounds=1 if quick else 3)
        results.append(found)
        (s1, s2), (b1, b2) = found["seconds"], found["bytes"]
        print(
            f"{size:6} {width:5} x {height:<5} time {s1:6.2f} / {s2:6.2f} = {s2 / s1:4.2f}   "
            f"memory {b1 / 2**20:6.0f} / {b2 / 2**20:6.0f} = {b2 / b1:4.2f}   "
            f"difference {found['difference']:.1e}",
            flush=True,
        )
    worst = {
        "stripes_time_ratio": max(r["seconds"][1] / r["seconds"][0] for r in results),
        "stripes_memory_ratio": max(r["bytes"][1] / r["bytes"][0] for r in results),
        "stripes_max_difference": max(r["difference"] for r in results),
    }
    print(json.dumps({key: float(f"{value:.3g}") for key, value in worst.items()}))


if __name__ == "__main__":
    main()
