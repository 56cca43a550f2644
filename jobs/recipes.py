"""What is trained, one entry per trained model, read top to bottom.

    laformer train NAME                    the recipe as it stands
    laformer train NAME --train.lr 1e-4    one value changed

Hours and scores stand in a recipe's comment only after they were measured (docs/LOG.md).
"""

import dataclasses
import json
from dataclasses import asdict
from typing import Any

from jobs.config import TrainJob
from jobs.errors import JobError
from laformer.config import SIZES, ModelConfig, Stage, TrainConfig
from pipelines.config import DataConfig

DEMO = TrainJob(
    task="denoise-gaussian-25",
    model=SIZES["tiny"],
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


def restormer_schedule(task: str, **network: Any) -> TrainJob:
    """Return the field's default for this skeleton at its first patch size, on `base`."""
    model = dataclasses.replace(SIZES["base"], **network)
    return TrainJob(task=task, model=model, train=TrainConfig())


def super_resolution(task: str, scale: int) -> TrainJob:
    """Return the same on patches of lq of 64 x 64, as the field's Transformers are trained."""
    job = restormer_schedule(task, scale=scale)
    return dataclasses.replace(job, train=TrainConfig(patch_px=64 * scale))


RECIPES: dict[str, TrainJob] = {
    "denoise-gaussian": restormer_schedule("denoise-gaussian"),
    "denoise-gaussian-25": restormer_schedule("denoise-gaussian-25"),
    "denoise-gaussian-grey": restormer_schedule(
        "denoise-gaussian-grey", in_channels=1, out_channels=1
    ),
    "denoise-real": restormer_schedule("denoise-real"),
    "jpeg": restormer_schedule("jpeg"),
    "deblur-motion": restormer_schedule("deblur-motion"),
    "deblur-defocus": restormer_schedule("deblur-defocus"),
    "deblur-defocus-dual": restormer_schedule("deblur-defocus-dual", in_channels=6),
    "derain": restormer_schedule("derain"),
    "desnow": restormer_schedule("desnow"),
    "dehaze": restormer_schedule("dehaze"),
    "weather": restormer_schedule("weather"),
    "lowlight": restormer_schedule("lowlight"),
    "sr-x2": super_resolution("sr-x2", 2),
    "sr-x3": super_resolution("sr-x3", 3),
    "sr-x4": super_resolution("sr-x4", 4),
    "sr-x4-blind": super_resolution("sr-x4-blind", 4),
    # Minutes on two cores: what `make demo` trains, and the same for other tasks.
    "demo": DEMO,
    "demo-jpeg": dataclasses.replace(DEMO, task="jpeg"),
    "demo-derain": dataclasses.replace(DEMO, task="derain"),
    "demo-sr-x2": dataclasses.replace(
        DEMO, task="sr-x2", model=dataclasses.replace(SIZES["tiny"], scale=2)
    ),
}


def recipe(name: str) -> TrainJob:
    """Return a recipe. Raises JobError naming what exists."""
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
