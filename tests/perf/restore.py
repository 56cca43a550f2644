"""Our batch restoration beside a bare loop of decode, forward and encode.

    python -m tests.perf.restore

The limit is one process per device that does nothing else: the same network (`tiny`, random
weights), the same files on the same disk, the same torch threads. Speeds are from the first images
done to the last, so that neither side pays for its start.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from laformer import checkpoint
from laformer.config import SIZES, InferenceConfig, TrainConfig
from laformer.loop import State
from laformer.model import LAformer
from laformer.restore import Restorer
from pipelines import images, inventory, parts, receipts, storage
from pipelines.images import Photo
from pipelines.restoration import THREADS, Pool, RestoreActor, Stage, restoration_stream
from tests.perf import measure

CORES = 2
MIXES = {
    "2 MP": [(1224, 1632)],
    "0.25 MP": [(512, 512)],
    "mixed": [(256, 384), (512, 768), (1224, 1632), (768, 512)],
}
QUICK = {"mixed, small": [(96, 128), (192, 256), (256, 384)]}
NUM_KEYS = 100_000
MEGAPIXELS = {True: (1,), False: (4, 16, 50, 100)}


@measure.in_recycled_memory
def main():
    arguments = parsed()
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save(folder / "model")
        print(f"{measure.machine()}; {CORES} torch threads")
        ratios = race(folder, arguments)
        skipped = skip(folder / "skip")
        print(f"{NUM_KEYS:,} finished keys on disk skipped in {skipped:.1f} s")
        peak = peaks(folder / "model", arguments)
    found = {"throughput_vs_bare_loop": round(ratios, 3)}
    found |= {"peak_gb_100mp": round(peak, 2), "skip_100k_s": round(skipped, 2)}
    print(json.dumps(found))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small photos, one short round")
    parser.add_argument("--photos", type=int, default=12, help="photos of a mix and round")
    parser.add_argument("--memory-gb", type=float, default=2.0, help="budget for one image")
    return parser.parse_args()


def save(folder):
    """Write a checkpoint of random weights."""
    torch.manual_seed(0)
    train = TrainConfig(steps=1, global_batch=1, patch_px=64, warmup_steps=0, flat_steps=0)
    checkpoint.save(folder, State.create(LAformer(SIZES["tiny"]), train), {})


class Load:
    """Loads the network in an actor."""

    def __init__(self, folder, memory_bytes=None):
        self.folder, self.memory_bytes = str(folder), memory_bytes

    def __call__(self):
        torch.set_num_threads(CORES)
        inference = InferenceConfig(memory_bytes=self.memory_bytes)
        restorer = Restorer.load(Path(self.folder), inference=inference)
        return lambda pixels: (restorer(pixels), "")


def photo(rng, height, width):
    """Return a PNG whose pixels are smooth but for their noise, as those of photos are."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = np.sin(rows / 37)[..., None] + np.cos(columns / 53)[..., None]
    levels = 128 + 50 * waves + rng.normal(0, 4, (height, width, 3)).astype(np.float32)
    return images.encode(Photo(pixels=levels.clip(0, 255).astype(np.uint8)), ".png")


def race(folder, arguments):
    """Let both restore each mix in turn; return the ratio of the first."""
    import ray

    from jobs.cluster import QUIET

    os.environ |= QUIET
    options = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=CORES + 1, **options)
    mixes, rounds = (QUICK, 1) if arguments.quick else (MIXES, 3)
    print(f"{'':<16}{'bare, images/s':>16}{'MP/s':>8}{'ours, images/s':>16}{'MP/s':>8}{'ratio':>8}")
    ratios = []
    for name, sizes in mixes.items():
        source = folder / name
        rng, area = np.random.default_rng(0), 0.0
        for i in range(arguments.photos):
            height, width = sizes[i % len(sizes)]
            area += height * width / 1e6 / arguments.photos
            storage.put(f"{source}/{i:03}.png", photo(rng, height, width))
        speeds = [(bare(source, folder), ours(source, folder)) for _ in range(rounds)]
        loop, stream = (statistics.median(each) for each in zip(*speeds, strict=True))
        ratios.append(statistics.median(b / a for a, b in speeds))
        print(
            f"{name:<16}{loop:>16.2f}{loop * area:>8.2f}{stream:>16.2f}{stream * area:>8.2f}"
            f"{ratios[-1]:>8.2f}"
        )
    ray.shutdown()
    return ratios[0]


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
            (folder / "bare.png").write_bytes(images.encode(Photo(pixels=pixels), ".png"))
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


def peaks(model, arguments):
    """Print the peak memory of an actor against the size of its image; return the last in GB."""
    for size in MEGAPIXELS[arguments.quick]:
        options = {"model": str(model), "megapixels": size, "memory_gb": arguments.memory_gb}
        peak = measure.elsewhere(peak_of, measure.GIVE_BACK | measure.ONE_THREAD, **options)
        print(f"{size:>4} MP: peak {peak:.2f} GB, budget {arguments.memory_gb:g} GB")
    return peak


def peak_of(model, megapixels, memory_gb):
    """Restore one photo as an actor does; return the peak of its process in GB."""
    height = 1000
    with tempfile.TemporaryDirectory() as scratch:
        data = photo(np.random.default_rng(0), height, 1000)
        pixels = np.tile(images.decode(data).pixels, (1, megapixels, 1))
        wide = pixels.reshape(height, -1, 3)
        Path(scratch, "in").mkdir()
        tiled = np.ascontiguousarray(wide).reshape(height * squarer(megapixels), -1, 3)
        Path(scratch, "in", "a.png").write_bytes(images.encode(Photo(pixels=tiled), ".png"))
        del pixels, wide, tiled
        stage = Stage(
            source=f"{scratch}/in",
            target=f"{scratch}/out",
            load=Load(model, int(memory_gb * 2**30)),
            known=(),
        )
        actor = RestoreActor(stage)
        Path("/proc/self/clear_refs").write_text("5")
        entry = {"key": "a.png", "target_key": "a.png", "etag": "", "num_bytes": 0}
        receipt = actor(entry)
        if receipt["status"] != "restored":
            raise RuntimeError(receipt["reason"])
    return measure.resident_bytes("VmHWM") / 1e9


def squarer(megapixels):
    """Return the divisor of the size that makes the picture nearly square."""
    return max(n for n in range(1, megapixels + 1) if megapixels % n == 0 and n * n <= megapixels)


if __name__ == "__main__":
    main()
