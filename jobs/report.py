"""laformer report: one page about a training run, whether it runs, failed or is finished."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["report", *sys.argv[1:]]))

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jobs import place
from jobs.config import ReportJob
from jobs.console import lasting, say, working
from jobs.page import Command, Curve, Film, Page, Pair, render
from jobs.tracking import Run, Tracker
from laformer import metrics
from laformer.patience import ENDED_EARLY, Record
from pipelines import images, storage
from pipelines.images import Photo
from pipelines.tasks import TASKS

FRAMES = 6
"""Validations of a photo that the page shows, the first and the last among them."""
SCORE, NAMED = "val_psnr_db", "val_psnr_db."
"""What validations measure, and how its name begins when it names its protocol too."""
CURVES = (
    ("Training loss", "", "loss"),
    ("PSNR of held-out photos", "dB", SCORE),
    ("Learning rate", "", "lr"),
    ("Norm of the gradient", "", "grad_norm"),
    ("Samples per second", "", "samples_per_s"),
    ("Waiting for data, fraction of the time", "", "data_wait_fraction"),
    ("Most memory of a worker", "MB", "memory_mb"),
    ("Most memory of a GPU", "MB", "gpu_memory_mb"),
)
"""Title, unit and metric. Other metrics of a run follow under their own names."""
COUNTS = ("replaced_", "skipped_")
"""How the names of metrics begin that count what went wrong: facts, not curves."""
NO_CURVES = (*COUNTS, NAMED, "psnr_db.", "ssim.", "workers", ENDED_EARLY)
"""How the names of metrics begin that do not follow training step by step."""
ORDER = ("curves", "photos", "films", "scores", "values", "commands")
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def run(job: ReportJob) -> str:
    """Write the page and return its uri."""
    tracker = Tracker()
    found = tracker.find_run(job.run)
    with working(f"reading the run {found.name}"):
        page = build(found, tracker)
    target = storage.absolute(job.target or f"report-{found.name}.html")
    storage.put(target, render(page).encode())
    say(f"{found.name}, {found.status.lower()}: {target}")
    return target


def build(found: Run, tracker: Tracker) -> Page:
    """Gather what the page shows."""
    task = TASKS.get(found.params.get("task", ""))
    curves = tuple(curves_of(found, tracker))
    shown = list(strips(found, tracker))
    return Page(
        title=f"Training run {found.name}",
        summary=(
            f"{task.title if task else 'A training run'}. The curves are what the run recorded; "
            "photos were held out of training, and are shown as the averaged weights restored "
            "them. A PSNR beside a photo is that of the pixels on this page."
        ),
        facts=tuple(facts(found, tracker, curves)),
        pairs=tuple(pair(key, frames) for key, frames in shown),
        scores=(),
        curves=curves,
        commands=commands(found),
        films=tuple(film(key, frames) for key, frames in shown if len(frames) > 1),
        values=tuple(sorted(found.params.items())),
        commands_heading="Go on",
        order=ORDER,
    )


def curves_of(found: Run, tracker: Tracker) -> Iterator[Curve]:
    """Yield the curves that the run has points of; the protocol of a PSNR is in its title."""
    protocol = "".join(f", {n.removeprefix(NAMED)}" for n in found.metrics if n.startswith(NAMED))
    known = {metric for _, _, metric in CURVES}
    others = sorted(name for name in found.metrics.keys() - known if not name.startswith(NO_CURVES))
    for title, unit, metric in (*CURVES, *((name, "", name) for name in others)):
        if metric in found.metrics:
            points = tuple(tracker.history(found.id, metric))
            shown = title + protocol if metric == SCORE else title
            yield Curve(title=shown, unit=unit, points=points)


def facts(found: Run, tracker: Tracker, curves: tuple[Curve, ...]) -> Iterator[tuple[str, str]]:
    """Yield labels and values: how far the run is, how well it does, and what happened to it."""
    record = Record()
    for step, psnr_db in tracker.history(found.id, SCORE):
        record = record.after(step, psnr_db)
    step = max((curve.points[-1][0] for curve in curves), default=0)
    steps = int(found.params.get("train.steps", step))
    heard_s = max([found.started_s, *tracker.times_s(found.id, "loss")])
    end = found.status.lower()
    if end == "running":
        end = f"running, last heard of {lasting(time.time() - heard_s)} ago"
    elif end == "killed":
        end = f"stopped by a signal at step {step:,} of {steps:,}"
    elif end == "finished" and step < steps:
        early = tracker.history(found.id, ENDED_EARLY) if ENDED_EARLY in found.metrics else []
        end = ended(early, step, steps)
    yield "status", end
    yield "step", f"{step:,} of {steps:,}"
    if record.psnr_db is not None:
        yield "best held-out PSNR", f"{record.psnr_db:.2f} dB at step {record.step:,}"
    yield "time", lasting((found.ended_s or heard_s) - found.started_s)
    yield "last number", f"{datetime.fromtimestamp(heard_s, UTC):%Y-%m-%d %H:%M} UTC"
    if "workers" in found.metrics:
        yield "workers", f"{found.metrics['workers']:.0f}"
        yield "restarts", str(len(tracker.times_s(found.id, "workers")) - 1)
    for name in sorted(name for name in found.metrics if name.startswith(COUNTS)):
        yield name.replace("_", " "), f"{found.metrics[name]:,.0f}"
    if found.params.get("init", "None") != "None":
        yield "first weights", found.params["init"]
    yield "samples", found.params.get("manifest_sha256", "unknown")[:12]
    yield "code", found.params.get("git_revision", "unknown")[:12]


def ended(early: list[tuple[int, float]], step: int, steps: int) -> str:
    """Say how a run ended before its last step, from the steps where its patience did."""
    # More patience may have gone on from an earlier one.
    if early and early[-1][0] == step:
        return f"ended early: {early[-1][1]:.0f} validations without a better one"
    return f"finished at step {step:,} of {steps:,}"


def strips(found: Run, tracker: Tracker) -> Iterator[tuple[str, list[tuple[int, list[Pixels]]]]]:
    """Yield each photo with some of its validations: step, and lq, restored and gt."""
    for key, paths in sorted(tracker.pictures(found.id).items()):
        steps = sorted(paths)
        places = np.linspace(0, len(steps) - 1, min(FRAMES, len(steps))).round().astype(int)
        chosen = [steps[place] for place in places]
        yield key, [(step, parts(tracker.artifact(found.id, paths[step]))) for step in chosen]


def parts(strip: bytes) -> list[Pixels]:
    """Cut a picture of three equal parts: `laformer.pictures.side_by_side`."""
    return np.split(images.eight_bit(images.decode(strip).rgb), 3, axis=1)


def pair(key: str, frames: list[tuple[int, list[Pixels]]]) -> Pair:
    """Return a photo as the last validation restored it."""
    _, (lq, restored, gt) = frames[-1]
    return Pair(
        key=key,
        before=png(lq),
        after=png(restored),
        truth=png(gt),
        before_psnr_db=metrics.psnr(lq, gt),
        after_psnr_db=metrics.psnr(restored, gt),
    )


def film(key: str, frames: list[tuple[int, list[Pixels]]]) -> Film:
    """Return a photo from its degraded state over all validations to the truth."""
    lq, _, gt = frames[-1][1]
    restored = [
        (f"step {step:,}: {metrics.psnr(pixels, gt):.2f} dB", png(pixels))
        for step, (_, pixels, _) in frames
    ]
    degraded = f"degraded: {metrics.psnr(lq, gt):.2f} dB"
    return Film(key=key, frames=((degraded, png(lq)), *restored, ("ground truth", png(gt))))


def png(pixels: Pixels) -> bytes:
    """Encode (H, W, 3) pixels."""
    return images.encode(Photo(pixels=np.ascontiguousarray(pixels), alpha=None), ".png")


def commands(found: Run) -> tuple[Command, ...]:
    """Return how to resume the run, and how to look at it again."""
    job = storage.join(found.folder, "job.json")
    address = place.without_secret(place.tracking_uri())
    rows = (
        (
            "Resume",
            ("laformer", "train", "--job", job),
            "Goes on from the last checkpoint; a finished run is left as it is.",
        ),
        (
            "This page again",
            ("laformer", "report", found.name),
            "Shows how far the run is by then.",
        ),
        (
            "Look at all runs",
            ("mlflow", "ui", "--backend-store-uri", address),
            "Opens the tracked runs, pictures and models in a browser.",
        ),
    )
    return tuple(
        Command(title=title, command=place.in_shell(*words), explanation=explanation)
        for title, words, explanation in rows
    )
