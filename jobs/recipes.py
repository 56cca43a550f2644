"""What is trained, one entry per trained model, read top to bottom.

    laformer train NAME                    the recipe as it stands
    laformer train NAME --train.lr 1e-4    one value changed
    laformer train debug-NAME              six steps of it on a network of toy size

The functions say the hardware and the hours of their recipes. Hours on GPUs are estimated: none
has run them yet. A goal is the published score, in dB of PSNR, that `laformer evaluate` is to reach
or that belongs to the named data set; which score a recipe reaches is not known before it is run.
"""

import dataclasses
import json
from dataclasses import asdict
from typing import Any

from jobs.config import TrainJob
from jobs.errors import JobError
from laformer.config import SIZES, ModelConfig, Stage, TrainConfig
from pipelines.config import DataConfig

DEBUG = "debug-"
"""Before the name of a recipe: six steps of it."""

RESTORMER = TrainConfig(
    precision="bfloat16",
    global_batch=64,
    stages=(
        Stage(first_step=92_000, patch_px=160, global_batch=40),
        Stage(first_step=156_000, patch_px=192, global_batch=32),
        Stage(first_step=204_000, patch_px=256, global_batch=16),
        Stage(first_step=240_000, patch_px=320, global_batch=8),
        Stage(first_step=276_000, patch_px=384, global_batch=8),
    ),
)
"""Restormer's published iterations, patches and batches (8 GPUs), after 128 px and 64 samples."""


def restormer_schedule(task: str, **network: Any) -> TrainJob:
    """Return the field's default for this skeleton: `base` on crops that grow to 384 pixels.

    Hardware: 8 GPUs, or 4, 2, 1: the workers divide every batch. Photos have 384 pixels or more on
    the shorter side; smaller ones drop out of later stages. `laformer prepare --tiles` feeds it.
    Hours, estimated: 14 on one H200, 2 on eight, with --train.compile. The crops of all steps
    have 3.1e11 pixels; a step is taken to move as much memory as three forward passes, each of
    130 kB a pixel by calculation, at half of the GPU's 4.8 TB/s.
    """
    model = dataclasses.replace(SIZES["base"], **network)
    return TrainJob(task=task, model=model, train=RESTORMER)


def super_resolution(task: str, scale: int) -> TrainJob:
    """Return `base` on crops of lq of 64 x 64 throughout, as the field's Transformers are trained.

    Hardware: one GPU, or as many as divide 32. Hours, estimated as above: 2 on one H200.
    """
    model = dataclasses.replace(SIZES["base"], scale=scale)
    return TrainJob(
        task=task, model=model, train=TrainConfig(precision="bfloat16", patch_px=64 * scale)
    )


def demo(task: str, **network: Any) -> TrainJob:
    """Return what `make demo` trains: minutes on two cores, `tiny` on a few photos (README.md)."""
    return TrainJob(
        task=task,
        model=dataclasses.replace(SIZES["tiny"], **network),
        train=TrainConfig(
            steps=600,
            global_batch=4,
            patch_px=64,
            lr=5e-3,
            warmup_steps=30,
            flat_steps=0,
            ema_decay=0.99,
            betas=(0.9, 0.99),
            log_every=10,
            checkpoint_every=200,
        ),
    )


def small(task: str, **network: Any) -> TrainJob:
    """Return what two cores without a GPU train in hours: `tiny`, on photos of half a megapixel.

    Photos have 96 pixels or more on the shorter side, times the scale.
    """
    model = dataclasses.replace(SIZES["tiny"], **network)
    return TrainJob(
        task=task,
        model=model,
        train=TrainConfig(
            steps=20_000,
            global_batch=8,
            patch_px=64 * model.scale,
            stages=(Stage(first_step=16_000, patch_px=96 * model.scale, global_batch=6),),
            lr=2e-3,
            warmup_steps=200,
            flat_steps=6_000,
            betas=(0.9, 0.99),
            checkpoint_every=1_000,
        ),
        # Small photos are decoded in no time: many of them in a batch, a few crops of each.
        data=DataConfig(crops_per_visit=4, visits_per_window=8),
    )


def debug(job: TrainJob) -> TrainJob:
    """Return six steps of a job, in two stages, on a network of 16 thousand parameters.

    Under a minute on any machine: does all of it run, on these photos, with these values? What it
    registers is nobody's candidate.
    """
    scale = job.model.scale
    return dataclasses.replace(
        job,
        candidate=False,
        model=dataclasses.replace(
            job.model, dim=2, head_dim=2, blocks=(1, 1, 1, 1), refinement=1, expansion=0.5
        ),
        train=dataclasses.replace(
            job.train,
            steps=6,
            global_batch=4,
            patch_px=16 * scale,
            stages=(Stage(first_step=3, patch_px=24 * scale, global_batch=2),),
            warmup_steps=1,
            flat_steps=0,
            log_every=1,
            checkpoint_every=3,
            segment_steps=3,
        ),
        data=dataclasses.replace(
            job.data, crops_per_visit=2, validation_px=24 * scale, validation_images=2
        ),
    )


RECIPES: dict[str, TrainJob] = {
    # Goal: cbsd68-sigma50 28.60 (Restormer); sigma15 34.42, sigma25 31.78 (SwinIR).
    "denoise-gaussian": restormer_schedule("denoise-gaussian"),
    # Goal: cbsd68-sigma25 31.78, kodak24-sigma25 32.89 (SwinIR).
    "denoise-gaussian-25": restormer_schedule("denoise-gaussian-25"),
    # Goal: set12, for which no published score is kept here yet.
    "denoise-gaussian-grey": restormer_schedule(
        "denoise-gaussian-grey", in_channels=1, out_channels=1
    ),
    # Goal: better than its input on the held-out photos; SIDD wants its captured pairs.
    "denoise-real": restormer_schedule("denoise-real"),
    # Goal: classic5-q10 30.27, q30 33.74, q40 34.53 (MambaIR, trained on grey).
    "jpeg": restormer_schedule("jpeg"),
    # Goal: GoPro 32.92 (Restormer), 33.71 (NAFNet), with its captured pairs as the manifest.
    "deblur-motion": restormer_schedule("deblur-motion"),
    # Goal: DPDD, one view, 25.98 (Restormer), with its captured pairs.
    "deblur-defocus": restormer_schedule("deblur-defocus"),
    # Goal: DPDD, both views: more than 25.98, with its captured pairs.
    "deblur-defocus-dual": restormer_schedule("deblur-defocus-dual", in_channels=6),
    # Goal: better than its input on the held-out photos, here and where no data set is named.
    "derain": restormer_schedule("derain"),
    # Goal: CSD 39.10 (ConvIR-B), with its pairs.
    "desnow": restormer_schedule("desnow"),
    # Goal: Dense-Haze 16.86 (ConvIR-B), with its captured pairs.
    "dehaze": restormer_schedule("dehaze"),
    "weather": restormer_schedule("weather"),
    "lowlight": restormer_schedule("lowlight"),
    # Goal: set5-x2, set14-x2 and set5-x3, for which no published score is kept here yet.
    "sr-x2": super_resolution("sr-x2", 2),
    "sr-x3": super_resolution("sr-x3", 3),
    # Goal: set5-x4 32.92, set14-x4 29.09 (SwinIR); 33.04, 29.23 (HAT).
    "sr-x4": super_resolution("sr-x4", 4),
    "sr-x4-blind": super_resolution("sr-x4-blind", 4),
    # Two to three hours on two cores.
    "tiny-denoise": small("denoise-gaussian"),
    "tiny-jpeg": small("jpeg"),
    "tiny-sr-x2": small("sr-x2", scale=2),
    "tiny-sr-x4": small("sr-x4", scale=4),
    # Minutes on two cores, by measurement: README.md has the scores of the first.
    "demo": demo("denoise-gaussian-25"),
    "demo-jpeg": demo("jpeg"),
    "demo-derain": demo("derain"),
    "demo-sr-x2": demo("sr-x2", scale=2),
}


def recipe(name: str) -> TrainJob:
    """Return a recipe, or with `DEBUG` before its name the steps that try it.

    Raises JobError naming what exists.
    """
    if name.startswith(DEBUG):
        return debug(recipe(name.removeprefix(DEBUG)))
    if name not in RECIPES:
        raise JobError(f"unknown recipe {name!r}; use one of: {', '.join(RECIPES)}")
    return RECIPES[name]


def to_json(job: TrainJob) -> str:
    """Write a job as JSON; it holds no secret, for places come from the environment."""
    return json.dumps(asdict(job), indent=2, sort_keys=True) + "\n"


def from_json(text: str) -> TrainJob:
    """Read a job that `to_json` wrote. Raises JobError naming an unknown or wrong value."""
    try:
        values: dict[str, Any] = json.loads(text)
        model, train, data = values.pop("model"), values.pop("train"), values.pop("data")
        values |= {name: tuple(values[name]) for name in ("manifest", "weight")}
        if isinstance(values.get("workers"), list):
            values["workers"] = tuple(values["workers"])
        train["betas"] = tuple(train["betas"])
        # Jobs of earlier versions have one stage and do not say so.
        train["stages"] = tuple(Stage(**stage) for stage in train.get("stages", ()))
        return TrainJob(
            model=ModelConfig(**model | {"blocks": tuple(model["blocks"])}),
            train=TrainConfig(**train),
            data=DataConfig(**data),
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"this is no job of this version: {error}; write it again") from error
