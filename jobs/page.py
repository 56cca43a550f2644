"""One HTML file with photos before and after, scores, curves and commands."""

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from itertools import groupby
from string import Template

_MISSING = "\N{EN DASH}"
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 456, 30, 220  # the plot inside a drawing of 480 by 270


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One photo before and after restoration."""

    key: str
    """Name of the photo."""
    before: bytes
    """Encoded degraded image."""
    after: bytes
    """Encoded restored image, of the same size."""
    truth: bytes | None
    """Encoded clean image, of the same size, where there is one."""
    before_psnr_db: float | None
    """PSNR of the degraded image in dB; NaN where it is not known, None where nobody asks."""
    after_psnr_db: float | None
    """PSNR of the restored image in dB; NaN where it is not known, None where nobody asks."""
    media_type: str = "image/png"
    """Encoding of the images: image/png or image/jpeg."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """One photo as it was seen again and again."""

    key: str
    """Name of the photo."""
    frames: tuple[tuple[str, bytes], ...]
    """What a picture is, and its encoded PNG, from first to last."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number followed over training."""

    title: str
    """What is drawn, such as training loss."""
    unit: str
    """Unit of the values; empty where they have none."""
    points: tuple[tuple[int, float], ...]
    """Step and value, by rising step; a NaN leaves a gap."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric on one benchmark under a named protocol."""

    benchmark: str
    """Name of the benchmark."""
    protocol: str
    """Name of the protocol, without which the numbers mean nothing."""
    metric: str
    """Name of the metric; a PSNR is in dB, others have no unit."""
    before: float
    """Mean over the degraded images."""
    after: float
    """Mean over the restored images."""
    num_images: int
    """Number of images that the means are over."""
    note: str = ""
    """What else is to be said of it, in few words."""
    more_is_better: bool = True
    """Whether a larger value is the better one."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One part of the system that a reader can run alone."""

    title: str
    """What the part is."""
    command: str
    """What to type."""
    explanation: str
    """What happens then."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that the report shows, in reading order; empty parts are left out."""

    title: str
    """Headline."""
    summary: str
    """One paragraph below it."""
    facts: tuple[tuple[str, str], ...]
    """Label and value of small facts, such as the model version."""
    pairs: tuple[Pair, ...]
    """Photos to compare."""
    scores: tuple[Score, ...]
    """Rows of the score table; the gain of the first is the key result."""
    curves: tuple[Curve, ...]
    """Curves of the training."""
    commands: tuple[Command, ...]
    """What to type."""
    films: tuple[Film, ...] = ()
    """Photos over time."""
    values: tuple[tuple[str, str], ...] = ()
    """Rows of a table of names and values."""
    values_heading: str = "Values"
    """What the values are."""
    commands_heading: str = "Run each part alone"
    """What the commands are for."""
    photo_table: bool = True
    """Whether the PSNR of each photo is listed below the photos."""
    order: tuple[str, ...] = ("photos", "films", "scores", "curves", "values", "commands")
    """The sections from top to bottom."""


def render(page: Page) -> str:
    """Return the page as one HTML document that needs no network; write it as UTF-8."""
    template = resources.files("jobs").joinpath("page.html").read_text(encoding="utf-8")
    photo_table = _psnr_table(page.pairs) if page.photo_table else ""
    sections = {
        "photos": _section("Photos", "photos", map(_photo, page.pairs), photo_table),
        "films": _section("Photos over time", "films", map(_film, page.films)),
        "scores": _section("Scores", "scores", _score_table(page.scores)),
        "curves": _section("Training", "curves", map(_curve, page.curves)),
        "values": _section(page.values_heading, "values", _value_table(page.values)),
        "commands": _section(page.commands_heading, "commands", map(_command, page.commands)),
    }
    return Template(template).substitute(
        title=escape(page.title),
        summary=escape(page.summary),
        result="".join(map(_result, page.scores[:1])),
        facts=_facts(page.facts),
        sections="\n".join(sections[name] for name in page.order),
    )


def _section(heading: str, kind: str, items: Iterable[str], after: str = "") -> str:
    body = "\n".join(items)
    if not body:
        return ""
    inside = f'<div class="{kind}">\n{body}\n</div>{after}'
    return f"<section>\n<h2>{escape(heading)}</h2>\n{inside}\n</section>"


def _quantity(value: float, unit: str, sign: str = "-") -> str:
    """Return value and unit, escaped: two decimals in dB, else four digits or more."""
    if math.isnan(value):
        return _MISSING
    digits = ",.0f" if 1000 <= abs(value) < 1e15 else "#.4g"
    text = f"{value:{sign}{'.2f' if unit == 'dB' else digits}}"
    text = text.replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")
    return escape(f"{text}\N{NO-BREAK SPACE}{unit}".rstrip())


def _gain(before: float, after: float, unit: str, tag: str, better: int = 1) -> str:
    gain = after - before
    tone = "up" if better * gain > 0 else "down" if better * gain < 0 else "muted"
    return f'<{tag} class="{tone}">{_quantity(gain, unit, "+")}</{tag}>'


def _unit(score: Score) -> str:
    return "dB" if score.metric.upper().startswith("PSNR") else ""


def _origin(score: Score) -> str:
    images = "image" if score.num_images == 1 else "images"
    note = f"; {escape(score.note)}" if score.note else ""
    return f"{escape(score.protocol)}, {score.num_images:,} {images}{note}"


def _result(score: Score) -> str:
    unit = _unit(score)
    return (
        f'<div class="result">{_gain(score.before, score.after, unit, "strong")}\n'
        f"<p>mean {escape(score.metric)} gain on {escape(score.benchmark)}, "
        f"from {_quantity(score.before, unit)} to {_quantity(score.after, unit)} "
        f"<small>{_origin(score)}</small></p></div>"
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    items = [f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts]
    return '<dl class="facts">\n' + "\n".join(items) + "\n</dl>" if items else ""


def _photo(pair: Pair) -> str:
    key, before, after = escape(pair.key), pair.before_psnr_db, pair.after_psnr_db
    asked = before is not None and after is not None
    tags = [
        f"{name} {_quantity(psnr_db, 'dB')}" if psnr_db is not None else name
        for name, psnr_db in (("degraded" if asked else "before", before), ("restored", after))
    ]
    layers = [
        _layer(pair, pair.before, "before", tags[0]),
        _layer(pair, pair.after, "after", tags[1]),
    ]
    gain = "" if before is None or after is None else _gain(before, after, "dB", "b")
    if pair.truth is not None:
        layers.append(_layer(pair, pair.truth, "truth", "ground truth"))
    return (
        f'<figure class="photo">\n<div class="stage">\n{"".join(layers)}'
        f'<input type="range" min="0" max="100" step="any" aria-label="{key}: before"></div>\n'
        f"<figcaption><h3>{key}</h3>{gain}</figcaption>\n</figure>"
    )


def _layer(pair: Pair, image: bytes, kind: str, label: str) -> str:
    source = f"data:{escape(pair.media_type)};base64,{b64encode(image).decode()}"
    return (
        f'<div class="layer {kind}"><img src="{source}" alt="{escape(pair.key)}, {label}">'
        f'<span class="tag">{label}</span></div>\n'
    )


def _film(film: Film) -> str:
    frames = (
        f'<figure><img src="data:image/png;base64,{b64encode(image).decode()}" '
        f'alt="{escape(film.key)}, {escape(label)}"><figcaption>{escape(label)}</figcaption>'
        f"</figure>\n"
        for label, image in film.frames
    )
    return f'<h3>{escape(film.key)}</h3>\n<div class="film">\n{"".join(frames)}</div>'


def _value_table(values: Sequence[tuple[str, str]]) -> list[str]:
    rows = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in values
    )
    return [f"<table>\n<tbody>\n{''.join(rows)}</tbody>\n</table>"] if values else []


def _row(header: str, before: float, after: float, unit: str, better: int = 1) -> str:
    cells = f"<td>{_quantity(before, unit)}</td><td>{_quantity(after, unit)}</td>"
    gain = _gain(before, after, unit, "td", better)
    return f'<tr><th scope="row">{header}</th>{cells}{gain}</tr>\n'


def _table(names: str, rows: Iterable[str], foot: str = "") -> str:
    head = "".join(f'<th scope="col">{n}</th>' for n in (names, "Degraded", "Restored", "Gain"))
    return (
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody>\n"
        f"<tfoot>{foot}</tfoot>\n</table>"
    )


def _psnr_table(pairs: Sequence[Pair]) -> str:
    asked = [
        (pair.key, pair.before_psnr_db, pair.after_psnr_db)
        for pair in pairs
        if pair.before_psnr_db is not None and pair.after_psnr_db is not None
    ]
    if pairs and not asked:
        return ""
    psnrs = [(before, after) for _, before, after in asked]
    known = [both for both in psnrs if not math.isnan(sum(both))]
    count = len(known) or math.nan
    before, after = (math.fsum(both[side] for both in known) / count for side in (0, 1))
    rows = (_row(escape(key), before, after, "dB") for key, before, after in asked)
    foot = _row(f"Mean of {len(known)} measured", before, after, "dB")
    return _table("PSNR of each photo", rows, foot)


def _score_table(scores: Sequence[Score]) -> list[str]:
    table = _table("Benchmark and protocol", map(_score_row, scores))
    return [table] if scores else []


def _score_row(score: Score) -> str:
    name = f"{escape(score.benchmark)}, {escape(score.metric)} <small>{_origin(score)}</small>"
    better = 1 if score.more_is_better else -1
    return _row(name, score.before, score.after, _unit(score), better)


def _command(command: Command) -> str:
    return (
        f'<div class="command"><div><h3>{escape(command.title)}</h3>'
        f'<p class="muted">{escape(command.explanation)}</p></div>\n'
        f'<div class="code"><pre><code>{escape(command.command)}</code></pre></div></div>'
    )


def _curve(curve: Curve) -> str:
    title = escape(curve.title)
    known = [(step, value) for step, value in curve.points if math.isfinite(value)]
    if not known:
        return f'<figure><h3>{title}</h3><p class="muted">{_MISSING}</p></figure>'
    steps, values = zip(*known, strict=True)
    columns, rows = _ticks(steps, 1), _ticks(values, 1e-9)
    last = f"{_quantity(values[-1], curve.unit)} at step {steps[-1]:,}"
    places = [(_x(step, columns), _y(value, rows)) for step, value in curve.points]
    stride = 1 + len(known) // 60  # more targets would be too narrow to point at
    targets = known[::-1][::stride][::-1]  # the last point among them
    width = (_RIGHT - _LEFT) / len(targets)
    hovers = (
        f'<g class="hit"><title>step {step:,}: {_quantity(value, curve.unit)}</title>'
        f'<rect x="{_x(step, columns) - width / 2:.1f}" y="{_TOP}" width="{width:.1f}" '
        f'height="{_BOTTOM - _TOP}"></rect>'
        f'<circle cx="{_x(step, columns):.1f}" cy="{_y(value, rows):.1f}" r="4"></circle></g>\n'
        for step, value in targets
    )
    return (
        f'<figure><h3>{title}</h3><p class="muted">{last}</p>\n'
        f'<svg viewBox="0 0 480 270" role="img" aria-label="{title}: {last}">\n'
        f'{_axes(columns, rows, curve.unit)}<path class="trace" d="{_trace(places)}"></path>\n'
        f"{''.join(hovers)}</svg></figure>"
    )


def _ticks(values: Sequence[float], least: float) -> list[float]:
    """Return round numbers around all values, at least `least` apart."""
    low, high = min(values), max(values)
    if math.isclose(low, high):
        low, high = low - 0.1 * abs(low), high + (0.1 * abs(high) or 1.0)
    rough = max((high - low) / 4, least)
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [gap * count for count in range(math.floor(low / gap), math.ceil(high / gap) + 1)]


def _x(step: float, ticks: Sequence[float]) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (step - ticks[0]) / (ticks[-1] - ticks[0])


def _y(value: float, ticks: Sequence[float]) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (value - ticks[0]) / (ticks[-1] - ticks[0])


def _axes(columns: Sequence[float], rows: Sequence[float], unit: str) -> str:
    digits = max(0, math.ceil(-math.log10(rows[1] - rows[0]) - 1e-9))
    horizontal = (
        f'<path class="grid" d="M{_LEFT} {_y(value, rows):.1f}H{_RIGHT}"></path>'
        f'<text class="y" x="{_LEFT - 8}" y="{_y(value, rows) + 4:.1f}">{value:,.{digits}f}</text>'
        for value in rows
    )
    vertical = (
        f'<path class="axis" d="M{_x(step, columns):.1f} {_BOTTOM}v5"></path>'
        f'<text class="x" x="{_x(step, columns):.1f}" y="{_BOTTOM + 21}">{step:,.0f}</text>\n'
        for step in columns
    )
    return (
        f"{''.join(horizontal)}{''.join(vertical)}"
        f'<path class="axis" d="M{_LEFT} {_BOTTOM}H{_RIGHT}"></path>\n'
        f'<text class="y" x="{_LEFT - 8}" y="12">{escape(unit)}</text>'
        f'<text class="y" x="{_RIGHT}" y="{_BOTTOM + 42}">step</text>\n'
    )


def _trace(places: Iterable[tuple[float, float]]) -> str:
    """Return the path through all places, lifted over gaps; h0 makes a lone point a dot."""
    runs = groupby(places, key=lambda place: math.isfinite(place[1]))
    lines = ("L".join(f"{x:.1f} {y:.1f}" for x, y in run) for finite, run in runs if finite)
    return "".join(f"M{line}h0" for line in lines)
