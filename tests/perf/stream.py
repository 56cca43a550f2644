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
import time
from pathlib import Path

import numpy as np

from pipelines import images, manifest, storage
from tests.perf import loaders, measure

SIZE = (1356, 2040)
CROPS = 16
"""Crops of one decode."""
LANES = 16
"""Samples of a step; with one visit a window, so that even a short run has many blocks."""


def main():
    arguments = parsed()
    bucket = os.environ.get("LAFORMER_STORE", "")
    if not arguments.quick and not bucket.startswith("s3://"):
        # A server in a process above this one: its time is not ours.
        server = [sys.executable, "infra/local_s3.py", "--", sys.executable, "-m", __spec__.name]
        os.execv(sys.executable, server + sys.argv[1:])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: loaders.PROCESSES])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = mosaics(arguments.photos, folder / "photos", 4 if arguments.quick else 16)
        with Contenders(folder, paths, "" if arguments.quick else bucket) as contenders:
            rows = race(contenders.runs, rounds=1 if arguments.quick else 3, quick=arguments.quick)
            lost = rows_lost(folder, 20_000 if arguments.quick else 1_000_000)
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
        return sum(len(rows["gt"]) for rows in steps_of(blocks, lanes, first_step=first))

    def close(self):
        pass


class Contenders:
    """Everything that is measured, started; `runs` has them by name."""

    def __init__(self, folder, paths, bucket):
        self.folder, self.paths, self.bucket = folder, paths, bucket
        self.runs = {}

    def __enter__(self):
        from jobs.cluster import connected

        places = [(path,) for path in self.paths]
        self.runs["bare loop, PNG"] = loaders.PlainLoop(places, CROPS)
        self.runs["BasicSR's habits, 1 crop"] = loaders.TorchLoader(
            loaders.OneCropOfFloats(places), batch_size=LANES
        )
        self.runs["DataLoader, PNG"] = loaders.TorchLoader(
            loaders.ManyCrops(places, CROPS), batch_size=None
        )
        self.add_web_dataset()
        self.cluster = connected()
        self.cluster.__enter__()
        tiles = self.add_ours(str(self.folder), "")
        self.runs["bare loop, tiles"] = loaders.PlainLoop(tiles, CROPS)
        if self.bucket:
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
        self.cluster.__exit__(*error)


def race(runs, *, rounds, quick):
    """Let all run in turn; return medians by name: crops/s and CPU ms a crop."""
    found = {name: [] for name in runs}
    for name, run in runs.items():
        run(num_crops_of(name, quick=True) // 4)
    for _ in range(rounds):
        for name, run in runs.items():
            num_crops = num_crops_of(name, quick=quick)
            wall, cpu = time.perf_counter(), tree_cpu_s()
            delivered = run(num_crops)
            wall, cpu = time.perf_counter() - wall, tree_cpu_s() - cpu
            if delivered != num_crops:
                raise RuntimeError(f"{name} delivered {delivered} of {num_crops} crops")
            found[name].append((delivered / wall, 1000 * cpu / delivered))
    return {
        name: tuple(statistics.median(each) for each in zip(*values, strict=True))
        for name, values in found.items()
    }


def num_crops_of(name, *, quick):
    """Return how many crops a run takes: about as long as the others."""
    if "1 crop" in name:
        return 64 if quick else 256
    if "tiles" in name:
        return 2048 if quick else 8192
    return 1024 if quick else 4096


def tree_cpu_s():
    """Return CPU seconds of this process and all below it, ended ones too, so far."""
    parents, seconds = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return sum(seconds[pid] for pid in parents if is_below(pid, os.getpid(), parents))


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
    print(f"{'':<28} {'crops/s':>9} {'CPU ms/crop':>12} {'cpu-eff':>8}")
    for name, (speed, cpu_ms) in rows.items():
        limit = rows.get(f"bare loop, {'tiles' if 'tiles' in name else 'PNG'}", rows[name])[1]
        print(f"{name:<28} {speed:>9.0f} {cpu_ms:>12.2f} {limit / cpu_ms:>8.2f}")


def summary(rows):
    """Return the ratios that the goals are stated in."""
    basicsr = rows["BasicSR's habits, 1 crop"][1]
    found = {}
    for kind, key in (("PNG", "direct"), ("tiles", "shards")):
        if f"ours, {kind}" in rows:
            ours = rows[f"ours, {kind}"][1]
            found[f"cpu_eff_{key}"] = round(rows[f"bare loop, {kind}"][1] / ours, 3)
            found[f"crops_per_cpu_s_vs_basicsr_{key}"] = round(basicsr / ours, 1)
    return found


if __name__ == "__main__":
    main()
