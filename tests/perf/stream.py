"""Our training stream beside a bare loop and other loaders.

    python -m tests.perf.stream --photos FOLDER

The same work for all: photos of 2040 x 1356 as PNG, crops of 128 x 128, turned, with noise. Loaders
take turns on the same two cores; CPU time is that of all processes together, but the S3 server's.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines import images, manifest, storage
from tests.perf import loaders, measure

SIZE = (1356, 2040)
CROPS = 16
"""Crops of one decode."""
LANES = 32
"""Samples of a step, as the recipes have; with one visit a window, so that a short run has some."""
WINDOW = CROPS * LANES
"""Crops that our stream cannot do with less than."""


@measure.in_recycled_memory
def main():
    arguments = parsed()
    bucket = os.environ.get("LAFORMER_STORE", "")
    if not arguments.quick and not bucket.startswith("s3://"):
        # A server in a process above this one: its time is not ours.
        server = [
            sys.executable,
            "infra/local_s3.py",
            "--",
            sys.executable,
            "-m",
            "tests.perf.stream",
        ]
        os.execv(sys.executable, server + sys.argv[1:])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: loaders.PROCESSES])
    METER.start()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = mosaics(arguments.photos, folder / "photos", 2 if arguments.quick else 16)
        with Contenders(folder, paths, bucket, quick=arguments.quick) as contenders:
            rows = race(contenders.runs, rounds=1 if arguments.quick else 3, quick=arguments.quick)
            lost = rows_lost(folder, 10_000 if arguments.quick else 1_000_000)
    print(f"{measure.machine()}; {len(paths)} photos, {loaders.PROCESSES} cores")
    table(rows)
    print(json.dumps(summary(rows) | {"rows_lost": lost}))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photos; scikit-image's otherwise")
    parser.add_argument("--quick", action="store_true", help="one short round")
    return parser.parse_args()


def mosaics(source, target, num):
    """Write `num` PNG files of 2K, each put together from photos; return their paths."""
    if source is None:
        import skimage.data

        source = Path(skimage.data.__file__).parent
    photos = []
    for path in sorted(source.glob("*.png")):
        pixels = images.decode(path.read_bytes()).rgb
        if pixels.dtype == np.uint8 and min(pixels.shape[:2]) >= 300:
            photos.append(pixels)
    target.mkdir()
    rng = np.random.default_rng(0)
    paths = []
    for index in range(num):
        mosaic = filled(photos, rng)
        paths.append(target / f"{index:02}.png")
        paths[-1].write_bytes(images.encode(images.Photo(pixels=mosaic), ".png"))
    return [str(path) for path in paths]


def filled(photos, rng):
    """Return one picture of `SIZE` without gaps, photos beside and below each other."""
    mosaic = np.empty((*SIZE, 3), np.uint8)
    top = 0
    while top < SIZE[0]:
        left, row = 0, SIZE[0] - top
        chosen = []
        while left < SIZE[1]:
            photo = photos[rng.integers(len(photos))]
            chosen.append((left, photo))
            left, row = left + photo.shape[1], min(row, photo.shape[0])
        for left, photo in chosen:
            part = photo[:row, : SIZE[1] - left]
            mosaic[top : top + row, left : left + part.shape[1]] = part
        top += row
    return mosaic


class RayStream:
    """Our stream: one segment of the plan, delivered to one consumer that checks every row."""

    def __init__(self, uri, patch_px=loaders.PATCH, lanes=LANES):
        from pipelines.tasks import TASKS
        from pipelines.training import TrainingStream

        options = {"seed": 0, "global_batch": lanes}
        options |= {"crops_per_visit": CROPS, "visits_per_window": 1}
        task = TASKS["denoise-gaussian"]
        self.stream = TrainingStream.create(
            (uri,), task=task, patch_px=patch_px, plan_options=options
        )
        self.lanes, self.step = lanes, 0

    def __call__(self, num_crops):
        from laformer.batches import Lanes, steps_of

        first, last = self.step, self.step + num_crops // self.lanes
        self.step = last
        (iterator,) = self.stream.segment(first, last, 1).streaming_split(1, equal=True)
        blocks = iterator.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2)
        lanes = Lanes.of(0, 1, self.lanes)
        steps = steps_of(blocks, lanes, first_step=first)
        # Views of shared memory, as a DataLoader's tensors are: nobody copies them here.
        return sum(len(part["gt"]) for parts in steps for part in parts)

    def close(self):
        pass


class Contenders:
    """Everything that is measured, started; `runs` has them by name.

    A quick run has what the last line is made of.
    """

    def __init__(self, folder, paths, bucket, *, quick):
        self.folder, self.paths, self.bucket, self.quick = folder, paths, bucket, quick
        self.runs = {}

    def __enter__(self):
        import ray

        from jobs.cluster import QUIET

        places = [(path,) for path in self.paths]
        bare = self.runs["bare loop, PNG"] = loaders.PlainLoop(places, CROPS)
        self.runs["BasicSR's habits, 1 crop"] = loaders.TorchLoader(
            loaders.OneCropOfFloats(places), batch_size=LANES
        )
        if not self.quick:
            self.runs["DataLoader, PNG"] = loaders.TorchLoader(
                loaders.ManyCrops(places, CROPS), batch_size=None
            )
            self.add_web_dataset()
        # One task a core, as the others have one process a core.
        os.environ |= QUIET
        ray.init(
            address="local",
            num_cpus=loaders.PROCESSES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        tiles = self.add_ours(str(self.folder), "")
        self.runs["bare loop, tiles"] = loaders.PlainLoop(tiles, CROPS, bare.pool)
        if self.bucket and not self.quick:
            for path in self.paths:
                storage.put(f"{self.bucket}/photos/{Path(path).name}", Path(path).read_bytes())
            self.add_ours(self.bucket, " on S3")
        return self

    def add_web_dataset(self):
        """Add WebDataset where it is installed."""
        try:
            pattern = loaders.web_dataset(self.folder, self.paths)
        except ImportError:
            print("WebDataset is not installed: left out")
            return
        self.runs["WebDataset, PNG"] = loaders.TorchLoader(
            loaders.WebCrops(pattern, CROPS), batch_size=None
        )

    def add_ours(self, root, where):
        """Add our stream from photos and from tiles; return where the tiles are."""
        from pipelines import packing
        from pipelines.config import Folders
        from pipelines.indexing import index

        direct, tiled = f"{root}/photos.parquet", f"{root}/tiles.parquet"
        for uri in (direct, tiled):
            catalogue = index(Folders(root=f"{root}/photos"), uri, holdout=0)
        list(packing.pack(catalogue, f"{root}/shards", tiled))
        self.runs[f"ours, PNG{where}"] = RayStream(direct)
        self.runs[f"ours, tiles{where}"] = RayStream(tiled)
        rows = manifest.read(tiled).table.to_pylist()
        return [(row["shard"], row["key"], row["offset"], row["shard_bytes"]) for row in rows]

    def __exit__(self, *error):
        for run in self.runs.values():
            run.close()
        import ray

        ray.shutdown()


class Cost(NamedTuple):
    """What a contender takes once it runs, and what it takes to start."""

    crops_per_s: float
    cpu_ms: float
    """CPU milliseconds of a crop, all processes together."""
    start_cpu_s: float
    """CPU seconds of a run before its first crop."""


def race(runs, *, rounds, quick):
    """Let all run in turn, a window and then a long run each; return the costs by name and round.

    The difference of the two is the cost of crops alone: a training segment of a thousand steps is
    far longer than a run here, and its start is a small part of it.
    """
    found = {name: [] for name in runs}
    for name, run in runs.items():
        # Ray starts its workers as there is work for them, and processes grow their heaps.
        if name.startswith("ours") or not quick:
            measured(run, num_crops_of(name, quick=quick)[0])
    for _ in range(rounds):
        for name, run in runs.items():
            few, many = num_crops_of(name, quick=quick)
            (wall, cpu), (long_wall, long_cpu) = measured(run, few), measured(run, many)
            cpu_s = (long_cpu - cpu) / (many - few)
            speed = (many - few) / max(1e-9, long_wall - wall)
            found[name].append(Cost(speed, 1000 * cpu_s, cpu - few * cpu_s))
    return found


def measured(run, num_crops):
    """Return seconds and CPU seconds of a run, which has to deliver every crop."""
    wall, cpu = time.perf_counter(), METER.read()
    delivered = run(num_crops)
    if delivered != num_crops:
        raise RuntimeError(f"{delivered} of {num_crops} crops were delivered")
    return time.perf_counter() - wall, METER.read() - cpu


def num_crops_of(name, *, quick):
    """Return how many crops a short and a long run take: seconds, and those about the same."""
    if "1 crop" in name:
        return LANES, (2 if quick else 16) * LANES
    few = WINDOW if name.startswith("ours") else WINDOW // 4
    windows = (8 if quick else 20) if "tiles" in name else (2 if quick else 6)
    return few, windows * WINDOW


class Meter(threading.Thread):
    """Adds up the CPU time of this process and of all that it or they started, but its own.

    What a process took that is gone cannot be read any more, and Ray's come and go, so everybody is
    looked at several times a second.
    """

    EVERY_S = 0.1

    def __init__(self):
        super().__init__(daemon=True)
        self.seconds, self.own_s = {}, 0.0
        self.lock = threading.Lock()

    def run(self):
        while True:
            self.read()
            time.sleep(self.EVERY_S)

    def read(self):
        """Return the CPU seconds so far."""
        with self.lock:
            began = time.thread_time()
            parents, seconds = {}, {}
            for stat in Path("/proc").glob("[0-9]*/stat"):
                try:
                    fields = stat.read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                pid = int(stat.parent.name)
                parents[pid] = int(fields[1])
                seconds[pid, fields[19]] = sum(map(int, fields[11:13]))  # and its start, as a name
            for (pid, start), ticks in seconds.items():
                if is_below(pid, os.getpid(), parents):
                    self.seconds[pid, start] = ticks / os.sysconf("SC_CLK_TCK")
            self.own_s += time.thread_time() - began
            return sum(self.seconds.values()) - self.own_s


METER = Meter()


def is_below(pid, root, parents):
    """Tell whether a process is `root` or was started by it or by one that was."""
    while pid != root:
        pid = parents.get(pid, 0)
        if pid == 0:
            return False
    return True


def rows_lost(folder, num_rows):
    """Deliver many rows of few pixels; return how many did not come as planned."""
    from pipelines.config import Folders
    from pipelines.indexing import index

    small = folder / "small"
    small.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (small / f"{number}.png").write_bytes(images.encode(images.Photo(pixels=pixels), ".png"))
    uri = str(folder / "small.parquet")
    index(Folders(root=str(small)), uri, holdout=0)
    stream = RayStream(uri, patch_px=8, lanes=64)
    num_rows = num_rows // 64 * 64
    # Any row that is missing, repeated or out of place would stop the run.
    delivered = 0
    while delivered < num_rows:
        delivered += stream(min(num_rows - delivered, 128_000))
    return num_rows - delivered


def table(rows):
    """Print all contenders beside the bare loop of their kind."""
    print(f"{'':<26}{'crops/s':>10}{'CPU ms/crop':>13}{'cpu-eff':>9}{'start, CPU s':>14}")
    for name, costs in rows.items():
        cost = Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))
        eff = ratio(rows, limit(name), name)
        print(
            f"{name:<26}{cost.crops_per_s:>10.0f}{cost.cpu_ms:>13.2f}{eff:>9.2f}"
            f"{cost.start_cpu_s:>14.1f}"
        )


def limit(name):
    """Return the bare loop over what a contender reads."""
    return f"bare loop, {'tiles' if 'tiles' in name else 'PNG'}"


def ratio(rows, other, name):
    """Return how many times the CPU time of a contender another takes: the median over rounds.

    Both of a round ran within a minute or two of each other, so that a machine that is slower for
    a while is slower for both.
    """
    pairs = zip(rows[other], rows[name], strict=True)
    return statistics.median(theirs.cpu_ms / own.cpu_ms for theirs, own in pairs)


def summary(rows):
    """Return the ratios that the goals are stated in."""
    found = {}
    for name, key in (("ours, PNG", "direct"), ("ours, tiles", "shards")):
        found[f"cpu_eff_{key}"] = round(ratio(rows, limit(name), name), 3)
        basicsr = ratio(rows, "BasicSR's habits, 1 crop", name)
        found[f"crops_per_cpu_s_vs_basicsr_{key}"] = round(basicsr, 1)
    return found


if __name__ == "__main__":
    main()
