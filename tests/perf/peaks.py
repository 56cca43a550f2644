"""Memory and time of one photo in an actor: by its size, by its budget, in tiles and in stripes."""

import tempfile
import time
from pathlib import Path

import numpy as np

from laformer.errors import ModelError
from pipelines.restoration import RestoreActor, Stage
from tests.perf import measure
from tests.perf.actor import Load, photo, png

BUDGETS_GB = {1: (0.1, 0.5), 10: (0.4, 2.0), 100: (2.0, 4.0)}
"""By megapixels. The first is about the least that will do."""
GOAL = (100, 2.0)
"""Megapixels and budget of the key in the last line."""
WAYS = {
    "whole": {"context": "whole"},
    "stripes": {"context": "stripes"},
    "tiles 512/64": {"context": "tiles"},
    "tiles 256/32": {"context": "tiles", "tile_px": 256, "overlap_px": 32},
}


def megapixels(sizes):
    """Return how much `peaks` restores."""
    return sum(size * len(BUDGETS_GB[size]) for size in sizes)


def peaks(model, sizes):
    """Print the peak memory of an actor by photo and budget; return it by both, in GB."""
    found = {}
    print(f"{'photo':>8}{'budget':>10}{'grown by':>10}{'peak':>10}{'photo took':>13}   how")
    for size in sizes:
        for budget in BUDGETS_GB[size]:
            took = alone(model, size, memory_bytes=int(budget * 2**30))
            found[size, budget] = took["peak_gb"]
            print(
                f"{size:>5} MP{budget:>7g} GB{took['grown_gb']:>7.2f} GB{took['peak_gb']:>7.2f} GB"
                f"{took['cpu_s']:>7.0f} CPU s   {took['how']}",
                flush=True,
            )
    return found


def ways(model, size):
    """Print time and memory of each way through one photo; return them by way."""
    found = {name: alone(model, size, **options) for name, options in WAYS.items()}
    print(f"{size} MP {'':<9}{'CPU s':>8}{'to stripes':>12}{'grown by':>11}{'to stripes':>12}")
    for name, took in found.items():
        time_ratio, memory_ratio = (took[key] / found["stripes"][key] for key in COMPARED)
        print(
            f"{name:<14}{took['cpu_s']:>8.1f}{time_ratio:>12.2f}{took['grown_gb']:>8.2f} GB"
            f"{memory_ratio:>12.2f}",
            flush=True,
        )
    return found


COMPARED = ("cpu_s", "grown_gb")


def alone(model, size, **inference):
    """Restore one photo of so many megapixels in a process of its own."""
    options = {"model": str(model), "megapixels": size, "inference": inference}
    return measure.elsewhere(restored, measure.GIVE_BACK | measure.ONE_THREAD, **options)


def restored(model, megapixels, inference):
    """Restore one photo as an actor does; return peak, growth, CPU seconds and how."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "in").mkdir()
        Path(scratch, "in", "a.png").write_bytes(tiled_photo(megapixels))
        stage = Stage(
            source=f"{scratch}/in",
            target=f"{scratch}/out",
            load=Load(model, **inference),
            known=(ModelError,),
        )
        actor = RestoreActor(stage)
        Path("/proc/self/clear_refs").write_text("5")
        before, started = measure.resident_bytes("VmRSS"), time.process_time()
        receipt = actor({"key": "a.png", "target_key": "a.png", "etag": "", "num_bytes": 0})
        if receipt["status"] != "restored":
            raise RuntimeError(receipt["reason"])
    peak = measure.resident_bytes("VmHWM")
    return {
        "peak_gb": peak / 1e9,
        "grown_gb": (peak - before) / 1e9,
        "cpu_s": time.process_time() - started,
        "how": receipt["how"],
    }


def tiled_photo(megapixels):
    """Return a PNG, nearly square, of one megapixel again and again."""
    rows = max(n for n in range(1, megapixels + 1) if not megapixels % n and n * n <= megapixels)
    one = photo(np.random.default_rng(0), 1000, 1000)
    return png(np.tile(one, (rows, megapixels // rows, 1)))
