"""Our stream of photos and a bare loop of decode, forward and encode in turn."""

import os
import statistics
import time

import numpy as np

from pipelines import images, inventory, storage
from pipelines.restoration import THREADS, Pool, Stage, restoration_stream
from tests.perf.actor import CORES, Load, photo, png

MIXES = {
    "2 MP": [(1224, 1632)],
    "0.25 MP": [(512, 512)],
    "mixed": [(256, 384), (512, 768), (1224, 1632), (768, 512)],
    "mixed, small": [(96, 128), (192, 256), (256, 384)],
}
MOST = {"2 MP": 10**6, "0.25 MP": 48, "mixed": 24, "mixed, small": 120}
"""Photos of a mix at most: a minute of each is enough where they are not what is asked for."""
ROUNDS = {"2 MP": 1, "0.25 MP": 3, "mixed": 3, "mixed, small": 5}
"""Two hundred photos of two megapixels are their own repetition."""


def sizes(name, num_photos):
    """Return height and width of each photo of a mix."""
    num = min(num_photos, MOST[name])
    return [MIXES[name][i % len(MIXES[name])] for i in range(num)]


def megapixels(names, num_photos, rounds=None):
    """Return how much both sides restore together."""
    areas = {name: sum(h * w for h, w in sizes(name, num_photos)) / 1e6 for name in names}
    return sum(2 * (rounds or ROUNDS[name]) * area for name, area in areas.items())


def race(folder, names, num_photos, rounds=None):
    """Let both restore each mix in turn; return their ratio by mix."""
    import ray

    from jobs.cluster import QUIET

    os.environ |= QUIET
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=CORES + 1, **options)
    try:
        return {
            name: run(folder, name, sizes(name, num_photos), rounds or ROUNDS[name])
            for name in names
        }
    finally:
        ray.shutdown()


def run(folder, name, given, rounds):
    """Race on one mix, print it, and return the median ratio over its rounds."""
    source, rng = folder / name, np.random.default_rng(0)
    for i, size in enumerate(given):
        storage.put(f"{source}/{i:04}.png", png(photo(rng, *size)))
    speeds = [(bare(source, folder), ours(source, folder)) for _ in range(rounds)]
    loop, stream = (statistics.median(each) for each in zip(*speeds, strict=True))
    ratios = sorted(b / a for a, b in speeds)
    area = sum(h * w for h, w in given) / 1e6 / len(given)
    print(
        f"{name}, {len(given)} photos, {len(speeds)} rounds: bare loop {loop:.2f} images/s, "
        f"{loop * area:.2f} MP/s; ours {stream:.2f} images/s, {stream * area:.2f} MP/s; "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )
    return statistics.median(ratios)


def pace(done):
    """Return images a second, from when the actor is warm to the last."""
    times = [time.perf_counter() for _ in done]
    return (len(times) - THREADS) / (times[-1] - times[THREADS - 1])


def bare(source, folder):
    """Return the speed of a loop in this process."""
    restore = Load(folder / "model")()
    items = inventory.take(str(source)).table.sort_by([("num_bytes", "descending")])

    def work():
        for key in items["key"].to_pylist():
            decoded = images.decode((source / key).read_bytes())
            pixels, _ = restore(decoded.pixels)
            (folder / "bare.png").write_bytes(png(pixels))
            yield key

    return pace(work())


def ours(source, folder):
    """Return the speed of our stream with one actor."""
    stage = Stage(
        source=str(source),
        target=str(folder / "restored"),
        load=Load(folder / "model"),
        known=(),
    )
    return pace(restoration_stream(inventory.take(str(source)).table, stage, Pool(actors=1)))
