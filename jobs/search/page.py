"""The page about a search: what it found, what each parameter is worth, every trial, the cost."""

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from jobs import place
from jobs.console import lasting
from jobs.search.distributions import Choice
from jobs.search.drawings import Axis, Line, bars, parallel, plot, scale
from jobs.search.findings import Findings
from jobs.search.journal import Record
from jobs.search.objectives import UNITS

LABEL = 10
"""Letters that have room between two axes."""
ENDS = {
    "finished": "did all steps",
    "stopped": "ended early",
    "failed": "failed",
    "running": "did not end",
}


def render(found: Findings, best: str) -> str:
    """Return the page as one HTML document that needs no network; `best` is the job to train."""
    template = resources.files("jobs.search").joinpath("page.html").read_text(encoding="utf-8")
    sections = (
        ("Fronts", fronts(found)),
        ("Scores", scores(found)),
        ("Values", coordinates(found)),
        ("Importance", importance(found)),
        ("Trials", table(found)),
        ("Best values", best_values(found)),
        ("Go on", commands(found, best)),
    )
    return Template(template).substitute(
        title=escape(f"Search {found.name}"),
        summary=escape(summary(found)),
        facts="".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in facts(found)
        ),
        sections="".join(
            f"<section><h2>{escape(heading)}</h2>{body}</section>"
            for heading, body in sections
            if body
        ),
    )


def summary(found: Findings) -> str:
    """Say in a paragraph what was done."""
    asked = " and ".join(found.objectives)
    return (
        f"{len(found.over)} of {found.trials} trials of {found.recipe.task}, at most "
        f"{found.last_step:,} steps each, asked for {asked}. A score is the mean PSNR of held-out "
        "photos after the steps it names; it chose among these trials, so it flatters the best a "
        "little."
    )


def facts(found: Findings) -> list[tuple[str, str]]:
    """Return labels and values: what is best, by how much, and what it cost."""
    winner = found.winner
    rows = [("best trial", f"{winner.number}"), ("its score", f"{winner.psnr_db:.2f} dB")]
    recipe = next((r for r in found.finished if r.number == 0), None)
    if recipe is not None and recipe.psnr_db is not None and winner.psnr_db is not None:
        rows.append(("the recipe as it was", f"{recipe.psnr_db:.2f} dB"))
        rows.append(("gain", f"{winner.psnr_db - recipe.psnr_db:+.2f} dB"))
    rows.append(("cost", f"{found.device_hours:.2f} device-hours"))
    rows.append(("steps", f"{found.steps:,}, {found.step_fraction:.0%} of all"))
    began = [time for record in found.records for time in record.began]
    ended = [time for record in found.records for time in record.ended]
    if began:
        rows.append(("from first to last", lasting(max(ended) - min(began))))
    return rows


def ranks(records: Sequence[Record]) -> dict[int, float]:
    """Return from 0 to 1 how good each trial is: by the steps it did, then by its score."""
    ordered = sorted(records, key=lambda r: (r.steps, r.psnr_db or 0.0))
    return {record.number: place / max(1, len(ordered) - 1) for place, record in enumerate(ordered)}


def named(found: Findings, record: Record) -> str:
    """Say in a line what a trial was and did."""
    values = ", ".join(f"{name} {shown(value)}" for name, value in found.values(record).items())
    score = "no score" if record.psnr_db is None else f"{record.psnr_db:.2f} dB"
    return f"trial {record.number}, {ENDS[record.status]}, {score} at step {record.steps}: {values}"


def scores(found: Findings) -> str:
    """Draw every trial over its steps."""
    measured = [record for record in found.records if record.points]
    steps = [float(step) for record in measured for step, _ in record.points]
    values = [value for record in measured for _, value in record.points]
    axis, places = scale("dB", [max(floor(values), value) for value in values], "{:.4g}")
    columns, lefts = scale("step", [0.0, *steps], "{:,.0f}")
    places, lefts, rank, lines = list(places), lefts[1:], ranks(measured), []
    for record in measured:
        points = tuple((lefts.pop(0), places.pop(0)) for _ in record.points)
        lines.append(
            Line(
                title=named(found, record),
                points=points,
                rank=rank[record.number],
                best=record == found.winner,
            )
        )
    return plot("score of each trial over its steps", columns, axis, lines)


def floor(values: Sequence[float]) -> float:
    """Return the least score that is drawn at its place: a collapse would flatten all others."""
    return sorted(values)[len(values) // 10]


def coordinates(found: Findings) -> str:
    """Draw the values of all trials beside their last score."""
    measured = [record for record in found.over if record.points]
    ends = [record.psnr_db or 0.0 for record in measured]
    last, places = scale("score, dB", [max(floor(ends), value) for value in ends], "{:.4g}")
    axes = [*map(axis_of, found.space.entries), last]
    rank = ranks(measured)
    lines = []
    for record, score in zip(measured, places, strict=True):
        values = found.values(record)
        points = [
            (index / (len(axes) - 1), entry.distribution.place(values[entry.name]))
            for index, entry in enumerate(found.space.entries)
            if entry.name in values
        ]
        lines.append(
            Line(
                title=named(found, record),
                points=(*points, (1.0, score)),
                rank=rank[record.number],
                best=record == found.winner,
            )
        )
    return parallel(axes, lines) + (
        '<p class="muted">One line a trial, the better the darker; the thick one is the best. An '
        "entry that took no part is passed by.</p>"
    )


def axis_of(entry: Any) -> Axis:
    """Return the axis of an entry."""
    spot = entry.distribution
    points = spot.grid(len(spot.options) if isinstance(spot, Choice) else 3)
    ticks = tuple((spot.place(value), brief(shown(value))) for value in points)
    return Axis(name=entry.name.split(".")[-1], ticks=ticks)


def brief(text: str) -> str:
    """Cut a text to what has room beside an axis."""
    return text if len(text) <= LABEL else text[: LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"


def importance(found: Findings) -> str:
    """Draw what each parameter is worth."""
    parts = found.importance()
    if not parts:
        return ""
    return bars(sorted(parts.items(), key=lambda item: -item[1])) + (
        '<p class="muted">PED-ANOVA over the score at the first validation, which all trials have: '
        "what part a parameter has in being among the better quarter. With few trials it is a "
        "hint.</p>"
    )


def fronts(found: Findings) -> str:
    """Draw the trials that no other beats in all objectives, among all that finished."""
    others = [name for name in found.objectives if name != "psnr"]
    if not others or not found.finished:
        return ""
    drawn = []
    best = {record.number for record in found.front}
    for name in others:
        form = "{:,.0f}" if name == "params" else "{:.4g}"
        columns, lefts = scale(UNITS[name], [r.objectives[name] for r in found.finished], form)
        rows, heights = scale("dB", [r.objectives["psnr"] for r in found.finished], "{:.4g}")
        lines = [
            Line(
                title=named(found, record),
                points=((left, height),),
                rank=float(record.number in best),
                best=record.number in best,
            )
            for record, left, height in zip(found.finished, lefts, heights, strict=True)
        ]
        front = [line for line in lines if line.best]
        edge = Line(
            title="the front",
            points=tuple(sorted(point for line in front for point in line.points)),
            rank=0.99,
        )
        drawn.append(plot(f"psnr against {name}", columns, rows, [*lines, edge]))
    return "".join(drawn)


def table(found: Findings) -> str:
    """Return a row for each trial, the best first."""
    columns = [entry.name for entry in found.space.entries]
    others = [name for name in found.objectives if name != "psnr"]
    rank = ranks(found.records)
    rows = []
    for record in sorted(found.records, key=lambda each: -rank[each.number]):
        values = found.values(record)
        score = "" if record.psnr_db is None else f"{record.psnr_db:.2f}"
        end = ENDS[record.status] + (f": {record.error}" if record.error else "")
        cells = [
            str(record.number),
            score,
            *(f"{record.objectives[n]:,.4g}" if n in record.objectives else "" for n in others),
            f"{record.steps:,}",
            f"{record.device_s:,.0f}",
            end,
            *(shown(values[name]) if name in values else "" for name in columns),
        ]
        kind = ' class="best"' if record == found.winner else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = ["trial", "dB", *others, "steps", "device-s", "end", *columns]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>'


def best_values(found: Findings) -> str:
    """Return what the best trial has and what the recipe had."""
    values, recipe = found.values(found.winner), found.space.of(found.recipe) or {}
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(shown(recipe.get(name, "")))}</td>'
        f"<td>{escape(shown(value))}</td></tr>"
        for name, value in values.items()
    )
    note = "".join(
        f'<p class="muted">From step {change.step} on it continued from trial {change.donor}; the '
        "values are its last.</p>"
        for change in found.winner.changes[-1:]
    )
    head = '<th scope="col"></th><th scope="col">recipe</th><th scope="col">best</th>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"


def commands(found: Findings, best: str) -> str:
    """Return what to type next."""
    rows = (
        ("Train the best values", place.in_shell("laformer", "train", "--job", best)),
        ("Ask for more trials", f"the same command with --trials {2 * found.trials}"),
    )
    return "".join(
        f"<h3>{escape(title)}</h3><pre><code>{escape(text)}</code></pre>" for title, text in rows
    )


def shown(value: Any) -> str:
    """Say a value as a person writes it.

    >>> shown(0.000123456), shown((1, 2)), shown("l1")
    ('0.000123', '1 2', 'l1')
    """
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return str(value)
