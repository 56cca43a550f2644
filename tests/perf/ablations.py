"""One change at a time to `tiny`, trained for the same steps on the same samples, without Ray.

    laformer prepare photos/ --manifest photos.parquet
    python -m tests.perf.ablations --manifest photos.parquet --benchmark-data data/ --steps 300

Every variant has the parameters of `tiny` to half a percent: what it saves or needs is given to
or taken from the feed-forward networks. It sees the same samples in the same order (the plan is
arithmetic), starts from the same seed and is measured on every 7th image of CBSD68 at sigma 25
under the protocol `gaussian-colour`. Prints a table with the loss along the way and, as its last
line, one flat JSON object.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch

from jobs import recipes
from laformer import loop, metrics
from laformer.attention import Pointwise
from laformer.batches import Batch, to_batch
from laformer.config import TrainConfig
from laformer.loop import State, fit
from laformer.model import LAformer, num_parameters
from laformer.restore import Restorer
from pipelines import images, storage
from pipelines.benchmarks import BENCHMARKS
from pipelines.plan import Span
from pipelines.tasks import TASKS
from pipelines.training import CropReader, TrainingStream
from tests.perf.sizes import equal_parameters

CURVE_POINTS = 5
BENCHMARK = BENCHMARKS["cbsd68-sigma25"]
EVERY = 7
CHUNK_STEPS = 32


def as_built(model: LAformer) -> None:
    """Leave the initial weights as they are."""


def torch_default(model: LAformer) -> None:
    """Undo the zeros that make a block begin as the identity."""
    for name, module in model.named_modules():
        if name.endswith("project") and isinstance(module, Pointwise):
            module.reset_parameters()


Variant = tuple[dict[str, object], Callable[[LAformer], None]]
VARIANTS: dict[str, Variant] = {
    "tiny (RELA k = 5, ELU + 1, parallel)": ({}, as_built),
    "blocks do not begin as the identity": ({}, torch_default),
    "linear attention, k = 0": ({"kernel": 0}, as_built),
    "RELA k = 3": ({"kernel": 3}, as_built),
    "RELA k = 7": ({"kernel": 7}, as_built),
    "phi = ReLU": ({"phi": "relu"}, as_built),
    "no channel attention": ({"combination": "spatial"}, as_built),
    "linear attention alone, k = 0": ({"combination": "spatial", "kernel": 0}, as_built),
    "alternating": ({"combination": "alternating"}, as_built),
    "sequential": ({"combination": "sequential"}, as_built),
}


def batches(stream: TrainingStream, config: TrainConfig) -> Iterator[Batch]:
    """Yield every batch of the run, the next samples being read while the last are learned."""
    reader, lanes = CropReader(stream), config.global_batch
    chunks = [
        Span(first, min(first + CHUNK_STEPS, config.steps), 0, lanes)
        for first in range(0, config.steps, CHUNK_STEPS)
    ]
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(reader.read, chunks[0])
        for index in range(len(chunks)):
            block = coming.result()
            if index + 1 < len(chunks):
                coming = pool.submit(reader.read, chunks[index + 1])
            for row in range(0, len(block["sample_id"]), lanes):
                yield to_batch({name: block[name][row : row + lanes] for name in block})


def psnr_db(model: LAformer, data: str) -> float:
    """Return the mean PSNR over every 7th image of the benchmark."""
    root = storage.join(storage.absolute(data), BENCHMARK.folder)
    restorer = Restorer(model, torch.device("cpu"))
    scores = []
    for entry in storage.list_entries(root, images.SUFFIXES)[::EVERY]:
        gt = images.decode(storage.get(storage.join(root, entry.key))).rgb
        scores.append(metrics.psnr(metrics.quantise(restorer(BENCHMARK.degrade(gt))), gt))
    return fmean(scores)


@dataclass(frozen=True)
class Trial:
    """What came of training one variant from one seed."""

    parameters: int
    seconds_per_step: float
    psnr_db: float
    losses: list[float]
    """Means over CURVE_POINTS equal parts of the run."""


def trained(
    variant: Variant, stream: TrainingStream, config: TrainConfig
) -> tuple[State, list[float]]:
    """Train one variant; return its state and the loss of each step."""
    options, prepare = variant
    tiny = recipes.recipe("demo").model
    model_config = equal_parameters(
        dataclasses.replace(tiny, **options), num_parameters(LAformer(tiny))
    )
    torch.manual_seed(config.seed)
    model = LAformer(model_config)
    prepare(model)
    state = State.create(model, config)
    losses: list[float] = []
    fit(
        state,
        batches(stream, config),
        config,
        after_step=lambda _, result: losses.append(float(result.loss)),
    )
    return state, losses


def trial(variant: Variant, stream: TrainingStream, config: TrainConfig, data: str) -> Trial:
    """Train one variant and measure it."""
    started = time.perf_counter()
    state, losses = trained(variant, stream, config)
    seconds = (time.perf_counter() - started) / config.steps
    part = len(losses) // CURVE_POINTS
    curve = [fmean(losses[i * part : (i + 1) * part]) for i in range(CURVE_POINTS)]
    with loop.averaged(state) as averaged:
        return Trial(num_parameters(averaged), seconds, psnr_db(averaged, data), curve)


def run_of(manifest: str, steps: int, seed: int) -> tuple[TrainingStream, TrainConfig]:
    """Return the samples and the training that all variants of a seed share."""
    demo = recipes.recipe("demo").train
    config = dataclasses.replace(
        demo,
        steps=steps,
        seed=seed,
        warmup_steps=min(demo.warmup_steps, steps // 10),
    )
    stream = TrainingStream.create(
        (str(Path(manifest).resolve()),),
        task=TASKS["denoise-gaussian-25"],
        patch_px=config.patch_px,
        plan_options={"seed": seed, "global_batch": config.global_batch},
    )
    return stream, config


def main() -> None:
    """Train every variant for every seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--benchmark-data", required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="parts of the names of the variants to run")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {arguments.steps} steps, {arguments.seeds} seeds")
    found: dict[str, float] = {}
    for name, variant in VARIANTS.items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        rows = []
        for seed in range(arguments.seeds):
            stream, config = run_of(arguments.manifest, arguments.steps, seed)
            rows.append(trial(variant, stream, config, arguments.benchmark_data))
        scores = [row.psnr_db for row in rows]
        each = " ".join(f"{score:.2f}" for score in scores)
        spread = f" +- {stdev(scores):.2f}" if len(scores) > 1 else ""
        found[name] = round(fmean(scores), 3)
        step_ms = 1000 * fmean(row.seconds_per_step for row in rows)
        curve = " ".join(
            f"{fmean(losses):.4f}" for losses in zip(*(r.losses for r in rows), strict=True)
        )
        print(
            f"{name:<40} {rows[0].parameters / 1e6:.3f} M  {step_ms:5.0f} ms/step  "
            f"{fmean(scores):.2f}{spread} dB  ({each})  loss {curve}",
            flush=True,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
