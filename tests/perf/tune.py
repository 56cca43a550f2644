"""A search against the recipe it starts from, under the same budget of steps.

    python -m tests.perf.tune            three seeds, 16 trials of 160 steps each
    python -m tests.perf.tune --quick    one seed, 4 trials of 32 steps

Each seed is a search of the demo's recipe by ASHA and Optuna with its own samples, weights and
choices. Then the recipe and the best values are trained anew for as many steps, from another seed,
and compared on photos of another data set (CBSD68, or generated ones where it is not there): the
photos that chose among trials would flatter the choice.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from jobs import prepare, recipes, tune
from jobs.cluster import connected
from jobs.config import PrepareJob, TuneJob
from jobs.search import plan as search_plan
from jobs.search.journal import Journal
from jobs.search.samples import decoded
from jobs.search.trials import Fitting
from laformer.loop import rgb_psnr_db
from pipelines import images
from pipelines.images import Photo
from pipelines.tasks import find
from tests.perf.measure import ROOT, in_recycled_memory

DATA = ROOT.parent / "shared" / "data"
TASK = "denoise-gaussian-25"
JUDGED, JUDGED_PX = 24, 128
PATCH_PX = 32
"""Of the training crops: a quarter of the demo's pixels, so that a search takes minutes."""
OTHER_SEED = 1000
"""Added to the seed of the search for the comparison."""


def photos(folder, name, num, seed):
    """Return a folder of real photos, or of generated ones where there are none."""
    if (DATA / name).is_dir():
        return DATA / name
    folder.mkdir(parents=True)
    for index in range(num):
        rng = np.random.default_rng([seed, index])
        coarse = rng.integers(0, 256, (12, 18, 3), np.uint8)
        pixels = np.kron(coarse, np.ones((24, 24, 1), np.uint8))
        data = images.encode(Photo(pixels=pixels, alpha=None), ".png")
        (folder / f"{index:02d}.png").write_bytes(data)
    return folder


def judged_rows(folder, task):
    """Return the centres of some photos with the noise of the task."""
    rows = []
    for index, path in enumerate(sorted(folder.iterdir())[:JUDGED]):
        gt = images.eight_bit(images.decode(path.read_bytes()).rgb)
        top, left = ((side - JUDGED_PX) // 2 for side in gt.shape[:2])
        gt = np.ascontiguousarray(gt[top : top + JUDGED_PX, left : left + JUDGED_PX])
        lq = task.pairs.degrade(gt, np.random.default_rng([7, index]))
        rows.append({"key": path.name, "lq": lq, "gt": gt})
    return rows


def trained_db(job, seed, rows):
    """Train a job from another seed and return its PSNR on photos that chose nothing."""
    job = dataclasses.replace(job, train=dataclasses.replace(job.train, seed=seed))
    fitting = Fitting.create(job, decoded, torch.device("cpu"))
    fitting.until(job.train.steps)
    return fitting.psnr_db(rows, rgb_psnr_db, 1)


def one_seed(seed, options, manifest, rows):
    """Search and compare; return what was measured."""
    recipe = recipes.recipe("demo")
    job = dataclasses.replace(
        recipe,
        name=f"perf-{seed}",
        manifest=(manifest,),
        train=dataclasses.replace(recipe.train, seed=seed, patch_px=PATCH_PX),
        data=dataclasses.replace(recipe.data, validation_px=96, validation_images=8),
    )
    began = time.perf_counter()
    found = tune.run(
        TuneJob(
            job=job,
            space=options.space,
            steps=options.steps,
            trials=options.trials,
            search_seed=seed,
        )
    )
    search_s = time.perf_counter() - began
    records = Journal(job.name).records()
    ours, theirs = (
        trained_db(search_plan.shortened(each, options.steps), seed + OTHER_SEED, rows)
        for each in (found.best, job)
    )
    return {
        "startup_s_per_trial": statistics.fmean(record.startup_s for record in records),
        "startup_s_of_later": statistics.median(record.startup_s for record in records),
        "asha_step_fraction": found.step_fraction,
        "search_s": search_s,
        "search_gain_db": found.winner.psnr_db - records[0].psnr_db,
        "best_db": ours,
        "default_db": theirs,
        "gain_db": ours - theirs,
    }


@in_recycled_memory
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--space", default="training", help="training keeps the network as it is")
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--trials", type=int, default=16)
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps, options.trials = [0], 32, 4
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {"LAFORMER_STORE": scratch, "RAY_AUTH_MODE": "disabled"}
        manifest = str(Path(scratch) / "manifest.parquet")
        clean = photos(Path(scratch) / "clean", "kodak24", 24, 1)
        rows = judged_rows(photos(Path(scratch) / "judged", "cbsd68", JUDGED, 2), find(TASK))
        with connected():
            prepare.run(PrepareJob(photos=str(clean), manifest=manifest, holdout=0.3))
            found = [one_seed(seed, options, manifest, rows) for seed in options.seeds]
    report(options, found)


def report(options, found):
    """Print a row for each seed, then the means as JSON."""
    print(f"\n{options.trials} trials of {options.steps} steps, space {options.space}")
    print("seed  start-up s  steps   search s  best dB  recipe dB    gain")
    for seed, row in zip(options.seeds, found, strict=True):
        print(
            f"{seed:4}  {row['startup_s_per_trial']:10.2f}  {row['asha_step_fraction']:5.0%}"
            f"  {row['search_s']:8.0f}  {row['best_db']:7.2f}  {row['default_db']:9.2f}"
            f"  {row['gain_db']:+6.2f}"
        )
    means = {name: round(statistics.fmean(row[name] for row in found), 4) for name in found[0]}
    means["seeds_better"] = sum(row["gain_db"] > 0 for row in found)
    means["seeds"] = len(found)
    print(json.dumps(means))


if __name__ == "__main__":
    main()
