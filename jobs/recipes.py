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
from laformer.config import SIZES, ModelConfig, TrainConfig
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

RECIPES: dict[str, TrainJob] = {
    # Restormer's schedule, the field's default for this skeleton, at its first patch size.
    "denoise-gaussian": TrainJob(task="denoise-gaussian", model=SIZES["base"], train=TrainConfig()),
    "denoise-gaussian-25": TrainJob(
        task="denoise-gaussian-25", model=SIZES["base"], train=TrainConfig()
    ),
    "jpeg": TrainJob(task="jpeg", model=SIZES["base"], train=TrainConfig()),
    # Minutes on two cores: what `make demo` trains, and the same for another task.
    "demo": DEMO,
    "demo-jpeg": dataclasses.replace(DEMO, task="jpeg"),
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
        return TrainJob(
            model=ModelConfig(**model | {"blocks": tuple(model["blocks"])}),
            train=TrainConfig(**train | {"betas": tuple(train["betas"])}),
            data=DataConfig(**data),
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JobError(f"this is no job of this version: {error}; write it again") from error
