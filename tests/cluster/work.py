"""What is done on the cluster, and how it is counted afterwards: nothing lost, twice or damaged."""

import dataclasses
import hashlib
import io
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from jobs import recipes
from jobs.checkpoints import StoredShelf
from laformer import checkpoint
from laformer.errors import CheckpointError
from pipelines import images, storage
from pipelines.config import DataConfig
from pipelines.images import Photo
from tests import faults
from tests.cluster.cluster import BUCKET
from tests.networks import MODEL

STORE = f"s3://{BUCKET}/runs"
PHOTOS, NOISY = f"s3://{BUCKET}/photos", f"s3://{BUCKET}/noisy"
STEPS, EVERY, BATCH = 80, 20, 4
"""Steps of a run, between two checkpoints, and samples of a step."""
LIMIT_S = 600
"""Longest time of a verb: a hang is then a failure. On two quiet cores none takes a minute."""
MODEL_VERSION = "laformer-denoise-gaussian-25/1"
"""What every restoration uses: the version that the undisturbed run registers."""


@dataclass(frozen=True)
class Tally:
    """How many there should be, and what is wrong with them."""

    wanted: int = 0
    lost: int = 0
    duplicated: int = 0
    corrupt: int = 0

    @property
    def is_clean(self):
        return not (self.lost or self.duplicated or self.corrupt)

    def __str__(self):
        return (
            f"{self.lost}/{self.duplicated}/{self.corrupt} of {self.wanted}" if self.wanted else ""
        )


def training(name, **options):
    """Return a run of seconds by two workers."""
    demo = recipes.recipe("demo")
    fields = {"steps": STEPS, "checkpoint_every": EVERY, "log_every": 10, "segment_steps": 40}
    fields |= {"patch_px": 16, "warmup_steps": 2, "global_batch": BATCH}
    return dataclasses.replace(
        demo,
        name=name,
        model=MODEL,
        workers=2,
        train=dataclasses.replace(demo.train, **(fields | options)),
        data=DataConfig(crops_per_visit=2, validation_px=32, validation_images=2),
    )


def upload(folder, num, height=48, width=64):
    """Store photos that differ from each other."""
    for index in range(num):
        rng = np.random.default_rng([height, index])
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        pixels = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
        fine = rng.integers(0, 16, pixels.shape, np.uint8)
        data = images.encode(Photo(pixels=pixels // 2 + fine, alpha=None), ".png")
        storage.put(storage.join(folder, f"album {index % 3}", f"{index:03d}.png"), data)


class Work:
    """Commands on a cluster, with what is wanted of each."""

    def __init__(self, cluster, num_photos=48, seed=0):
        self.cluster, self.num_photos, self.seed = cluster, num_photos, seed
        self.commands = []

    def start(self, *words, **environment):
        """Start a verb on the head."""
        command = self.cluster.drive(*words, **environment)
        self.commands.append(command)
        return command

    def done(self, *words, seconds=LIMIT_S):
        """Run a verb to its end."""
        command = self.start("jobs.cli", *words)
        code = command.ended(seconds)
        assert code == 0, f"{words} ended with {code}:\n{command}"
        return command

    def begin(self):
        """Make what the rows share: photos, a manifest, and what comes out of them undisturbed."""
        upload(PHOTOS, 10)
        upload(NOISY, self.num_photos, 192, 256)
        self.done("prepare", PHOTOS, "--holdout", "0.3")
        command = self.train("undisturbed")
        assert command.ended(LIMIT_S) == 0, f"{command}"
        self.expected = self.sums("undisturbed")
        self.done("restore", NOISY, f"s3://{BUCKET}/undisturbed", "--model", MODEL_VERSION)
        self.reference = digests(f"s3://{BUCKET}/undisturbed")
        assert len(self.reference) == self.num_photos

    def train(self, name):
        """Start a run whose workers keep a record of their samples."""
        path = self.cluster.scratch / f"{name}.json"
        path.write_text(recipes.to_json(training(name)))
        return self.start("tests.driver", "train", "--job", str(path))

    def restore(self, name):
        """Start a restoration of all photos into a folder of that name."""
        words = (NOISY, f"s3://{BUCKET}/{name}", "--model", MODEL_VERSION)
        return self.start("jobs.cli", "restore", *words)

    def shelf(self, name):
        return StoredShelf(f"{STORE}/train/{name}")

    def sums(self, name):
        """Return the digests of the last weights and optimiser state, after checking them."""
        with self.shelf(name).opened(STEPS) as folder:
            checkpoint.verify(folder)
            return {
                file: hashlib.sha256((folder / file).read_bytes()).hexdigest()
                for file in (checkpoint.WEIGHTS, checkpoint.STATE)
            }

    def reaches(self, command, name, step, seconds=LIMIT_S):
        """Wait for a line of the record with that step or a later one."""
        deadline = time.monotonic() + seconds
        while max((line.step for line in self.record(name)), default=-1) < step:
            assert time.monotonic() < deadline, f"no step {step} within {seconds} s:\n{command}"
            assert command.process.poll() is None, f"ended early:\n{command}"
            time.sleep(0.1)

    def restored(self, command, name, number, seconds=LIMIT_S):
        """Wait until so many photos are restored."""
        deadline = time.monotonic() + seconds
        while len(storage.list_entries(f"s3://{BUCKET}/{name}", (".png",))) < number:
            assert time.monotonic() < deadline, f"no {number} photos in {seconds} s:\n{command}"
            assert command.process.poll() is None, f"ended early:\n{command}"
            time.sleep(0.1)

    def record(self, name):
        """Return what the workers say they have done, in the order in which they did it."""
        folder = Path(self.cluster.scratch / "record" / name)
        lines = []
        for path in folder.glob(f"{faults.SAMPLES}*"):
            rank = int(path.name.removeprefix(faults.SAMPLES))
            for text in path.read_text().splitlines():
                at_s, step, size, *ids = text.split()
                lines.append(Line(float(at_s), int(step), int(size), rank, list(map(int, ids))))
        return sorted(lines, key=lambda line: line.at_s)

    def with_workers(self, name):
        """Return the workers' hosts that train now."""
        names = self.cluster.workers()
        return [each for each in names if self.cluster.hosts[each].pids("RayTrainWorker")]

    def samples(self, name):
        """Count the samples of the steps that made the weights, and compare the weights."""
        effective = {}
        for line in self.record(name):
            effective[line.step, line.rank] = line
        found = Counter(each for line in effective.values() for each in line.ids)
        planned = range(STEPS * BATCH)
        wrong = 0
        if STEPS in self.shelf(name).complete():
            sums = self.sums(name)
            wrong = sum(sums[file] != self.expected[file] for file in self.expected)
        return Tally(
            len(planned),
            lost=sum(each not in found for each in planned),
            duplicated=sum(number > 1 for number in found.values()),
            corrupt=wrong,
        )

    def checkpoints(self, name):
        """Read every complete checkpoint of a run; the last step must be among them."""
        shelf, corrupt = self.shelf(name), 0
        steps = shelf.complete()
        for step in steps:
            try:
                with shelf.opened(step) as folder:
                    checkpoint.verify(folder)
            except CheckpointError:
                corrupt += 1
        lost = sum(step not in steps for step in (STEPS, STEPS - EVERY))
        return Tally(len(steps) + lost, lost=lost, corrupt=corrupt)

    def photos(self, name):
        """Compare the results and receipts of a restoration with the undisturbed ones."""
        target = f"s3://{BUCKET}/{name}"
        found = digests(target)
        receipts = Counter(
            row["target_key"] for row in rows(f"{target}/.laformer") if row["status"] == "restored"
        )
        wanted = self.reference
        return Tally(
            len(wanted),
            lost=sum(key not in found or not receipts[key] for key in wanted),
            duplicated=len(found.keys() - wanted.keys()) + sum(n > 1 for n in receipts.values()),
            corrupt=sum(found[key] != wanted[key] for key in wanted.keys() & found.keys()),
        )

    def close(self):
        """End what still runs."""
        for command in self.commands:
            command.close()
        self.commands.clear()


@dataclass(frozen=True)
class Line:
    """A step that a worker has done."""

    at_s: float
    step: int
    size: int
    rank: int
    ids: list


def digests(target):
    """Return the digest of every photo below a target."""
    found = storage.list_entries(target, (".png",))
    keys = [entry.key for entry in found]
    return {
        key: hashlib.sha256(storage.get(storage.join(target, *key.split("/")))).hexdigest()
        for key in keys
    }


def rows(folder):
    """Return every receipt below a folder."""
    parts = [f"{folder}/{entry.key}" for entry in storage.list_entries(folder, (".parquet",))]
    tables = [pq.read_table(io.BytesIO(storage.get(part))) for part in parts]
    return [row for table in tables for row in table.to_pylist()]
