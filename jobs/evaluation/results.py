"""What is printed and written of scores: a table, one JSON, a Parquet file each, and a page."""

import json
from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from jobs import page, place
from jobs.console import say
from jobs.evaluation.contender import Contender
from jobs.evaluation.intervals import LEVEL, RESAMPLES, Interval
from jobs.evaluation.measures import kind
from jobs.evaluation.pictures import CROP_PX
from jobs.evaluation.scoring import Score, parquet
from jobs.page import Pair
from pipelines import storage
from pipelines.benchmarks import BENCHMARKS
from pipelines.places import expected, present
from pipelines.tasks import TASKS

SCORES, PAGE = "scores.json", "scores.html"
PUBLISHED = "published PSNR"
"""Heads what others report of their networks: it was not measured here."""


def table(model: str, scores: Iterable[Score]) -> Table:
    """Return the scores beside the input's and the published ones, each under its protocol.

    No number is cut off on a terminal of 80 columns, and none in a log.
    """
    shown = Table(title=f"{model}: means over images", box=SIMPLE_HEAD)
    for column in ("benchmark", "measure", "input", "restored, 95 %", PUBLISHED):
        is_text = column in ("benchmark", PUBLISHED)
        shown.add_column(column, no_wrap=not is_text, overflow="fold")
    for found in scores:
        what = f"{found.benchmark}\n{found.protocol}\n{counted(found)}"
        for name in found.measures:
            is_first = name == found.measures[0]
            known = kind(name)
            restored = known.text(found.means[name])
            shown.add_row(
                what if is_first else "",
                f"{known.title}, {known.unit}" if known.unit else known.title,
                known.text(found.means[f"input_{name}"]),
                f"{restored}\n{between(name, found.intervals[name])}",
                "\n".join(published(found.benchmark)) or "-" if name == "psnr_db" else "",
                end_section=name == found.measures[-1],
            )
    return shown


def counted(found: Score) -> str:
    """Return how many images a score is the mean of."""
    return "1 image" if len(found.rows) == 1 else f"{len(found.rows):,} images"


def between(name: str, interval: Interval | None) -> str:
    """Return an interval as it is printed."""
    if interval is None:
        return "-"
    return f"{kind(name).text(interval.low)} to {kind(name).text(interval.high)}"


def published(benchmark: str) -> list[str]:
    """Return what others report under the protocol of a benchmark."""
    known = BENCHMARKS.get(benchmark)
    return [f"{model} {db:.2f}" for model, db in known.published] if known else []


def listing(data: str | None) -> Table:
    """Return every benchmark by task: its protocol, its folders, how many images are there."""
    found = present(storage.absolute(data)) if data else {}
    shown = Table(title=f"Benchmarks, in folders below {data or '--data'}", box=SIMPLE_HEAD)
    for column in ("task, benchmark", "protocol", "folders: gt + lq", "images"):
        shown.add_column(column, no_wrap=column == "images", overflow="fold")
    for task in dict.fromkeys(each.task for each in BENCHMARKS.values()):
        shown.add_section()
        shown.add_row(Text(task, style="bold"))
        for name, each in BENCHMARKS.items():
            if each.task == task:
                there = str(found[name]) if name in found else "-" if data else ""
                shown.add_row(f"  {name}", each.protocol.name, expected(each), there)
    return shown


def write(folder: str, model: Contender, scores: list[Score], pairs: list[Pair]) -> None:
    """Write everything below a folder, and say where the page is."""
    for found in scores:
        storage.put(storage.join(folder, f"{found.benchmark}.parquet"), parquet(found))
    facts = json.dumps(as_json(model, scores), indent=2, allow_nan=False)
    storage.put(storage.join(folder, SCORES), f"{facts}\n".encode())
    shown = page.render(built(model, scores, pairs))
    storage.put(storage.join(folder, PAGE), shown.encode())
    say(f"scores and pictures: {storage.join(folder, PAGE)}")


def as_json(model: Contender, scores: list[Score]) -> dict[str, Any]:
    """Return all scores as JSON; an infinite one, which JSON has no word for, is null."""
    return {
        "model": model.name,
        "task": model.tags.get("task"),
        "interval": {"level": LEVEL, "resamples": RESAMPLES, "over": "images"},
        "benchmarks": [benchmark_as_json(found) for found in scores],
    }


def benchmark_as_json(found: Score) -> dict[str, Any]:
    """Return the scores on one benchmark as JSON."""
    known = BENCHMARKS.get(found.benchmark)
    gain = Interval.of(found.gains_db())
    return {
        "benchmark": found.benchmark,
        "protocol": found.protocol,
        "images": len(found.rows),
        "images_sha256": found.digest,
        "measures": {
            name: {
                "input": number(found.means[f"input_{name}"]),
                "restored": number(found.means[name]),
                "interval": ends(found.intervals[name]),
                "more_is_better": kind(name).more_is_better,
            }
            for name in found.measures
        },
        "gain_psnr_db_interval": ends(gain),
        "published_psnr_db": dict(known.published) if known else {},
    }


def ends(interval: Interval | None) -> list[float] | None:
    """Return an interval as JSON."""
    return [interval.low, interval.high] if interval else None


def number(value: float) -> float | None:
    """Return a number as JSON."""
    return value if abs(value) != float("inf") else None


def built(model: Contender, scores: list[Score], pairs: list[Pair]) -> page.Page:
    """Gather what the page shows."""
    task = TASKS.get(model.tags.get("task", ""))
    facts = (
        ("model", model.name),
        ("task", task.title if task else "unknown"),
        ("benchmarks", str(len(scores))),
        ("images", str(sum(len(found.rows) for found in scores))),
    )
    again = ("laformer", "evaluate", "--model", model.name)
    named = [word for found in scores for word in ("--benchmark", found.benchmark)]
    is_public = all(found.benchmark in BENCHMARKS for found in scores)
    words = (*again, *named, "--data", "FOLDER") if is_public else again
    return page.Page(
        title=f"{model.name} under named protocols",
        summary=(
            "Each benchmark shows the images with the largest and the smallest gain of PSNR: of "
            f"each, at full size, the {CROP_PX} pixels where it gained or lost the most. The PSNR "
            "beside them is that of the whole image. Scores are means over images; the interval "
            "holds 95 % of the means that drawing the images again would give."
        ),
        facts=facts,
        pairs=tuple(pairs),
        scores=tuple(line for found in scores for line in lines(found)),
        curves=(),
        commands=(
            page.Command(
                title="These scores again",
                command=place.in_shell(*words),
                explanation="Measures the same model; the numbers are the same on one machine.",
            ),
        ),
        photo_table=False,
        order=("scores", "photos", "commands"),
    )


def lines(found: Score) -> Iterable[page.Score]:
    """Yield a line of the page for each measure."""
    for name in found.measures:
        others = published(found.benchmark) if name == "psnr_db" else []
        notes = [
            f"95 %: {between(name, found.intervals[name])}",
            *([f"published: {', '.join(others)}"] if others else []),
        ]
        yield page.Score(
            benchmark=found.benchmark,
            protocol=found.protocol,
            metric=kind(name).title,
            before=found.means[f"input_{name}"],
            after=found.means[name],
            num_images=len(found.rows),
            note="; ".join(notes),
            more_is_better=kind(name).more_is_better,
        )
