"""Training fed by Ray beside a bare loop over the same network and batches in memory.

    python -m tests.perf.train

Both train on as many processes with the same threads; the bare loop has one batch in memory and
nothing else to do, so it is the limit. The run that Ray feeds reads photos of 2040 x 1356, as PNG
or as the tiles of `laformer prepare --tiles`, degrades crops of 64 x 64, takes checkpoints, and
loses a worker on the way.
"""

import argparse
import dataclasses
import json
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.perf import measure
from tests.perf.diary import Diary, Killer, fed

BATCH, PATCH = 4, 64
LOG_EVERY = 5
RECIPE_STEPS = 200
"""Steps between two checkpoints of the demo, the shortest of any recipe."""


class Case(NamedTuple):
    """What is trained, and for how long."""

    size: str
    num_workers: int
    steps: int
    checkpoint_every: int
    source: str = "photos"
    loses_worker: bool = True

    def __str__(self):
        return f"{self.size}, {self.num_workers} workers, {self.source}"


CASES = (
    Case("tiny", 2, 300, 50),
    Case("tiny", 2, 300, 50, "tiles"),
    Case("tiny", 1, 150, 50),
    Case("small", 2, 75, 25),
)
QUICK = (Case("tiny", 1, 40, 10, loses_worker=False),)


@measure.in_recycled_memory
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photos; scikit-image's otherwise")
    parser.add_argument("--quick", action="store_true", help="one short run, that loses none")
    arguments = parser.parse_args()
    from jobs.cluster import connected

    found, num_photos = {}, 2 if arguments.quick else 4
    with tempfile.TemporaryDirectory() as scratch, connected():
        feed = Feed(Path(scratch), arguments.photos, num_photos)
        if not arguments.quick:
            feed.pack()
        for case in QUICK if arguments.quick else CASES:
            before = bare_steps_per_s(case)
            fed = feed.run(case)
            # The bare loop once before and once after, for the machine may change in between.
            bare = before if arguments.quick else (before + bare_steps_per_s(case)) / 2
            found[case] = fed, bare
    table(found)
    print(json.dumps(summary(*next(iter(found.values())))))


def train_config(case, **options):
    """Return the training of the demo, for a few steps."""
    from jobs import recipes

    fields = {"global_batch": BATCH, "patch_px": PATCH, "log_every": LOG_EVERY}
    fields |= {"steps": case.steps, "checkpoint_every": case.checkpoint_every}
    return dataclasses.replace(recipes.RECIPES["demo"].train, **(fields | options))


def threads_of(num_workers):
    """Return torch threads of a worker: they share the cores."""
    return max(1, len(os.sched_getaffinity(0)) // num_workers)


def bare_steps_per_s(case):
    """Return the steps a second of processes that train on one batch in memory."""
    import torch

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "seconds"
        if case.num_workers == 1:
            bare_loop(0, case, port, result)
        else:
            arguments = case, port, result
            torch.multiprocessing.spawn(bare_loop, arguments, nprocs=case.num_workers)
        return float(result.read_text())


def bare_loop(rank, case, port, result):
    """Train on one batch; rank 0 writes its steps a second, those of warming up left out."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from laformer.batches import to_batch
    from laformer.config import SIZES
    from laformer.loop import State, fit
    from laformer.model import LAformer

    torch.set_num_threads(threads_of(case.num_workers))
    torch.manual_seed(0)
    config = train_config(case)
    state = State.create(LAformer(SIZES[case.size]), config)
    if case.num_workers > 1:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group("gloo", address, rank=rank, world_size=case.num_workers)
        state.forward = DistributedDataParallel(state.model)
    num, rng = BATCH // case.num_workers, np.random.default_rng(rank)
    gt = rng.integers(0, 256, (num, PATCH, PATCH, 3), dtype=np.uint8)
    lq = gt.astype(np.float16) / np.float16(255)
    batch = to_batch({"sample_id": np.arange(num), "lq": lq, "gt": gt})
    warm, steps = 5, max(30, case.steps // 3)
    fit(state, [batch] * warm, config)
    began = time.perf_counter()
    fit(state, [batch] * steps, config)
    speed = steps / (time.perf_counter() - began)
    if rank == 0:
        Path(result).write_text(str(speed))
    if case.num_workers > 1:
        dist.destroy_process_group()


class Feed:
    """A manifest of photos, and runs that Ray feeds from it."""

    def __init__(self, folder, photos, num_photos):
        from pipelines.config import Folders
        from pipelines.indexing import index
        from tests.perf.stream import mosaics

        self.folder = folder
        mosaics(photos, folder / "photos", num_photos)
        index(Folders(root=str(folder / "photos")), self.uri("photos"), holdout=0)

    def uri(self, source):
        """Return where the manifest of photos or of tiles is."""
        return str(self.folder / f"{source}.parquet")

    def pack(self):
        """Write the tiles of the photos."""
        from pipelines import manifest, packing

        catalogue = manifest.read(self.uri("photos"))
        shutil.copy(self.uri("photos"), self.uri("tiles"))
        list(packing.pack(catalogue, str(self.folder / "shards"), self.uri("tiles")))

    def run(self, case):
        """Train under Ray, kill rank 0 after three quarters if so, and return what came of it."""
        diary = Diary(str(self.folder / f"{case}.jsonl"))
        killer = Killer(diary, case.steps * 3 // 4 if case.loses_worker else None)
        killer.start()
        self.trainer(case, diary).fit()
        killer.done = True
        return fed(case, diary.lines(), killer)

    def trainer(self, case, diary):
        """Return what `laformer train` would run, told to the diary alone."""
        import ray
        from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from jobs.checkpoints import StoredShelf
        from jobs.training.notices import Notices
        from jobs.training.restarts import Restarts
        from laformer.assignment import WorkerJob
        from laformer.config import SIZES
        from laformer.worker import train_worker
        from pipelines.tasks import TASKS
        from pipelines.training import TrainingStream

        options = {"seed": 0, "global_batch": BATCH, "crops_per_visit": 16, "visits_per_window": 2}
        task = TASKS["denoise-gaussian"]
        uri = self.uri(case.source)
        stream = TrainingStream.create((uri,), task=task, patch_px=PATCH, plan_options=options)
        black = np.zeros((16, 16, 3), np.uint8)
        name = f"{case.size}-{case.num_workers}-{case.source}"
        self.notices = Notices.create()
        job = WorkerJob(
            model=SIZES[case.size],
            train=train_config(case),
            segment=stream.segment,
            validation=ray.put([{"key": "black", "lq": black, "gt": black}]),
            observer=diary,
            facts={},
            threads=threads_of(case.num_workers),
            shelf=StoredShelf(str(self.folder / "runs" / name)),
            notices=self.notices,
            hang_s=600.0,
        )
        return TorchTrainer(
            train_worker,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(num_workers=case.num_workers),
            run_config=RunConfig(
                name=name,
                storage_path=str(self.folder / "runs"),
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[Restarts(self.notices)],
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )


def table(found):
    """Print all cases."""
    print(measure.machine())
    print(
        f"{'':<26}{'bare steps/s':>13}{'fed':>8}{'fed/bare':>10}{'data wait':>11}"
        f"{'checkpoint s':>14}{'restart s':>11}{'worker MB':>11}"
    )
    for case, (run, bare) in found.items():
        print(
            f"{case!s:<26}{bare:>13.2f}{run.steps_per_s:>8.2f}{run.steps_per_s / bare:>10.2f}"
            f"{run.data_wait_fraction:>11.3f}{run.checkpoint_s:>14.2f}"
            f"{run.restart_s or 'no kill':>11}{run.worker_mb:>11.0f}"
        )


def summary(run, bare):
    """Return the ratios that the goals are stated in."""
    between_s = RECIPE_STEPS / run.steps_per_s
    return {
        "steps_vs_bare_loop": round(run.steps_per_s / bare, 3),
        "data_wait_fraction": round(run.data_wait_fraction, 4),
        "checkpoint_time_fraction": round(run.checkpoint_s / (run.checkpoint_s + between_s), 4),
        "restart_s": run.restart_s,
    }


if __name__ == "__main__":
    main()
