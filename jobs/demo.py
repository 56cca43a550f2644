"""laformer demo: every verb once, on real photos, and one page that shows what came out."""

import sys

if __name__ == "__main__":
    from jobs import cli

    sys.exit(cli.main(["demo", *sys.argv[1:]]))

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from jobs import evaluate, place, prepare, promote, recipes, restore, train
from jobs.cluster import connected
from jobs.config import DemoJob, EvaluateJob, PrepareJob, PromoteJob, RestoreJob, TrainJob
from jobs.console import say
from jobs.errors import JobError
from jobs.evaluation import results
from jobs.evaluation.scoring import Score as Measured
from jobs.page import Command, Curve, Page, Pair, render
from jobs.tracking import Tracker
from jobs.training.release import Trained
from jobs.versions.registry import CANDIDATE, CHAMPION, Registry
from laformer import metrics
from pipelines import images, storage
from pipelines.config import RestoreConfig
from pipelines.families import Benchmark
from pipelines.images import Photo
from pipelines.manifest import Manifest
from pipelines.tasks import find

PHOTOS = (
    "astronaut.png",
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
"""Photos inside scikit-image's package: no drawings, no two of the same scene. The hash of their
names keeps coffee and motorcycle_left out of training: colour photos, for a grey photo hides the
same noise three times and would flatter the score."""
MAX_SHOWN = 6
"""Held-out photos that are restored and shown."""
SHOWN_PX = 768
"""Longest side of a picture on the page; larger photos show their centre."""


def run(job: DemoJob) -> Path:
    """Run prepare, train, evaluate, promote and restore; write the page and return its path."""
    started = time.perf_counter()
    recipe = recipes.recipe(job.recipe)
    task = find(recipe.task)
    if (task.channels, task.views) != (3, 1):
        raise JobError(
            f"the demo shows one colour photo before and after, but {recipe.task} has {task.views} "
            f"views of {task.channels} channels; use for example --recipe demo-derain"
        )
    folder = storage.join(place.store(), "demo")
    manifest_uri = storage.join(folder, "manifest.parquet")
    with connected():
        say("1/5 prepare: index the photos")
        photos = storage.absolute(job.photos) if job.photos else bundled(folder)
        catalogue = prepare.run(
            PrepareJob(photos=photos, manifest=manifest_uri, holdout=job.holdout)
        )
        say("2/5 train: Ray Data degrades, Ray Train trains, MLflow tracks")
        training = plan_training(job, recipe, manifest_uri, catalogue)
        trained = train.run(training)
        name = trained.version.name
        say("3/5 evaluate: the candidate on photos it never saw")
        scores = evaluate.run(EvaluateJob(model=f"{name}@{CANDIDATE}", manifest=manifest_uri))
        say("4/5 promote: candidate to champion, if it holds the gate")
        say(promoted(PromoteJob(name=name, manifest=manifest_uri)))
        say("5/5 restore: a folder of degraded photos with the champion")
        album = storage.join(folder, str(training.name))
        gate = find(recipe.task).gate
        shown = degraded_folder(catalogue, storage.join(album, "degraded"), gate)
        restored = restore.run(
            RestoreJob(
                source=storage.join(album, "degraded"),
                target=storage.join(album, "restored"),
                model=f"{name}@{CHAMPION}",
                restore=RestoreConfig(overwrite=True),  # an earlier champion's, of another demo
            )
        )
    pairs = [pair(catalogue, album, key, gate) for key in shown]
    seconds = time.perf_counter() - started
    facts = (
        ("photos restored by", restored.model),
        ("trained and scored", str(trained.version)),
        ("task", trained.version.tags["task"]),
        ("step", trained.version.tags["step"]),
        ("code", trained.version.tags["git_revision"][:12]),
        ("whole demo", f"{seconds:.0f} s"),
    )
    page = build_page(pairs, scores, trained, facts, commands(photos, job, training, name))
    path = Path(job.page or (Path("runs" if storage.is_remote(folder) else folder) / "demo.html"))
    storage.put(str(path), render(page).encode())
    say(f"done in {seconds:.0f} s with {restored.model}; open {path.resolve()}")
    return path.resolve()


def bundled(folder: str) -> str:
    """Copy scikit-image's photos to the store; return where they are."""
    try:
        import skimage.data  # noqa: PLC0415 - only the demo needs it
    except ImportError as error:
        raise JobError(
            "the demo's photos come with scikit-image, which is not installed; "
            "run make demo, or name a folder of photos with --photos"
        ) from error
    source, target = Path(skimage.data.__file__).parent, storage.join(folder, "photos")
    for name in PHOTOS:
        put_if_changed(storage.join(target, name), (source / name).read_bytes())
    return target


def put_if_changed(uri: str, data: bytes) -> None:
    """Write only what is not there yet: a photo written again counts as another photo."""
    if not storage.exists(uri) or storage.get(uri) != data:
        storage.put(uri, data)


def plan_training(
    job: DemoJob, recipe: TrainJob, manifest_uri: str, catalogue: Manifest
) -> TrainJob:
    """Return the recipe under a name that other photos or steps do not share."""
    options = recipe.train
    if job.steps:
        options = dataclasses.replace(
            options,
            steps=job.steps,
            warmup_steps=min(options.warmup_steps, job.steps // 10),
            flat_steps=min(options.flat_steps, job.steps // 3),
        )
    name = f"{job.recipe}-{options.steps}-{catalogue.digest()[:8]}"
    return dataclasses.replace(recipe, train=options, manifest=(manifest_uri,), name=name)


def promoted(job: PromoteJob) -> str:
    """Promote if the gate holds; a candidate that is no better is no failure of the demo."""
    try:
        return f"promoted {promote.run(job)}"
    except JobError as error:
        if Registry().alias(job.name, CHAMPION) is None:
            raise
        return f"the champion stays: {error}"


def degraded_folder(catalogue: Manifest, folder: str, gate: Benchmark) -> list[str]:
    """Write held-out photos, degraded, as 8-bit PNG files, as a user would have them."""
    keys: list[str] = catalogue.usable("held_out")["key"].to_pylist()[:MAX_SHOWN]
    for key in keys:
        lq: Any = gate.degrade(clean_photo(catalogue, key, gate))
        pixels = lq if lq.dtype == np.uint8 else metrics.quantise(lq)
        data = images.encode(Photo(pixels=pixels), ".png")
        put_if_changed(storage.join(folder, png_name(key)), data)
    return keys


def png_name(key: str) -> str:
    """Return the name of a photo written as PNG."""
    return key if key.endswith(".png") else f"{key}.png"


def clean_photo(catalogue: Manifest, key: str, gate: Benchmark) -> Any:
    """Return a photo (H, W, 3) uint8, as it is compared."""
    photo = images.decode(storage.get(storage.join(catalogue.root, key)))
    return gate.prepare(images.eight_bit(photo.rgb))


def pair(catalogue: Manifest, folder: str, key: str, gate: Benchmark) -> Pair:
    """Read back what the batch job read and wrote, and compare both with the clean photo."""
    clean = clean_photo(catalogue, key, gate)
    degraded, restored = (
        images.eight_bit(images.decode(storage.get(storage.join(folder, side, png_name(key)))).rgb)
        for side in ("degraded", "restored")
    )
    degraded = gate.shown(degraded)
    return Pair(
        key=key,
        before=shown_png(degraded),
        after=shown_png(restored),
        truth=shown_png(clean),
        before_psnr_db=metrics.psnr(degraded, clean),
        after_psnr_db=metrics.psnr(restored, clean),
    )


def shown_png(pixels: Any) -> bytes:
    """Encode the centre of a photo for the page."""
    top, left = (max(0, (side - SHOWN_PX) // 2) for side in pixels.shape[:2])
    centre = np.ascontiguousarray(pixels[top : top + SHOWN_PX, left : left + SHOWN_PX])
    return images.encode(Photo(pixels=centre, alpha=None), ".png")


def build_page(
    pairs: list[Pair],
    scores: list[Measured],
    trained: Trained,
    facts: tuple[tuple[str, str], ...],
    shown_commands: tuple[Command, ...],
) -> Page:
    """Gather what the page shows."""
    tracker = Tracker()
    curves = [
        Curve(title=title, unit=unit, points=tuple(tracker.history(trained.run_id, metric)))
        for title, unit, metric in (
            ("Training loss", "", "loss"),
            ("PSNR of held-out crops", "dB", "val_psnr_db"),
        )
    ]
    task = find(trained.version.tags["task"])
    return Page(
        title="LAformer restores photos it never saw",
        summary=(
            f"{task.title}: Ray Data streamed clean photos and degraded them on the fly, Ray "
            "Train trained the network, MLflow tracked it, and a batch job restored a folder "
            "with the promoted model. The photos below were kept out of training; they were "
            "restored from 8-bit files. The score follows its protocol, which may start finer."
        ),
        facts=facts,
        pairs=tuple(pairs),
        scores=tuple(line for found in scores for line in results.lines(found)),
        curves=tuple(curves),
        commands=shown_commands,
    )


def commands(photos: str, job: DemoJob, training: TrainJob, name: str) -> tuple[Command, ...]:
    """Return how to run each part alone on the same photos, from the same working folder."""
    (manifest,), holdout = training.manifest, str(job.holdout)
    steps = () if job.steps is None else ("--train.steps", str(job.steps))
    rows: tuple[tuple[str, tuple[str, ...], str], ...] = (
        (
            "Prepare",
            ("prepare", photos, "--manifest", manifest, "--holdout", holdout),
            "Looks at every photo once and writes the manifest; only new photos are read again.",
        ),
        (
            "Train",
            ("train", job.recipe, "--manifest", manifest, "--name", "mine", *steps),
            "Trains under a name of its own; the same command again resumes.",
        ),
        (
            "Evaluate",
            ("evaluate", "--model", f"{name}@{CANDIDATE}", "--manifest", manifest),
            "Measures the candidate on the held-out photos under its protocol.",
        ),
        ("Promote", ("promote", name), "Makes a better candidate the champion."),
        (
            "Restore",
            ("restore", "my_photos/", "restored/"),
            "Restores a folder with the champion; finished photos are not done again.",
        ),
    )
    shown = [
        Command(title=title, command=place.in_shell("laformer", *words), explanation=explanation)
        for title, words, explanation in rows
    ]
    address = place.without_secret(place.tracking_uri())
    shown.append(
        Command(
            title="Look at the runs",
            command=place.in_shell("mlflow", "ui", "--backend-store-uri", address),
            explanation="Opens the tracked runs, pictures and models in a browser.",
        )
    )
    return tuple(shown)
