"""Drawings of a search as SVG: scores, parallel coordinates, fronts, bars. No script in them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1040, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 1020, 44, 330
STAGGER = 16
"""Drop in pixels between the names of neighbouring axes, which would overlap."""
COLOURS = ("#b9bcc2", "#7fb5a9", "#2f8f7c", "#0a6a5c")
"""From the worst to the best quarter of trials."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One trial in a drawing."""

    title: str
    """What is told where the pointer rests."""
    points: tuple[tuple[float, float], ...]
    """Places from 0 to 1, from left to right and from bottom to top."""
    rank: float
    """From 0, the worst, to 1, the best."""
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of parallel coordinates."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    """Place from 0 to 1 and what stands there."""


def svg(label: str, body: Iterable[str], height: int = HEIGHT) -> str:
    """Return a drawing that scales with the page."""
    inside = "".join(body)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{inside}</svg>"
    )


def across(place: float) -> float:
    """Return the x of a place from 0 to 1."""
    return LEFT + (RIGHT - LEFT) * place


def up(place: float) -> float:
    """Return the y of a place from 0 to 1."""
    return BOTTOM - (BOTTOM - TOP) * place


def colour(rank: float) -> str:
    """Return the colour of a rank."""
    return COLOURS[min(len(COLOURS) - 1, int(rank * len(COLOURS)))]


def path(line: Line) -> str:
    """Draw one trial."""
    places = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
    width = 3.5 if line.best else 1.6
    dots = "".join(
        f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="{2.2 * width / 1.6:.1f}" '
        f'fill="{colour(line.rank)}"></circle>'
        for x, y in line.points
    )
    return (
        f'<g class="trial"><title>{escape(line.title)}</title><path d="M{places}h0" fill="none" '
        f'stroke="{colour(line.rank)}" stroke-width="{width}" stroke-linejoin="round"></path>'
        f"{dots}</g>"
    )


def parallel(axes: Sequence[Axis], lines: Sequence[Line]) -> str:
    """Draw parallel coordinates; the places of a line are those of its values."""
    drawn: list[str] = []
    for index, axis in enumerate(axes):
        x = across(index / max(1, len(axes) - 1))
        anchor = "start" if index == 0 else "end" if index == len(axes) - 1 else "middle"
        top = TOP - 26 + STAGGER * (index % 2)
        drawn.append(f'<path class="axis" d="M{x:.1f} {TOP}V{BOTTOM}"></path>')
        drawn.append(
            f'<text x="{x:.1f}" y="{top}" text-anchor="{anchor}">{escape(axis.name)}</text>'
        )
        side = "end" if index == len(axes) - 1 else "start"
        shift = -6 if side == "end" else 6
        drawn += [
            f'<text class="tick" x="{x + shift:.1f}" y="{up(place) + 4:.1f}" '
            f'text-anchor="{side}">{escape(text)}</text>'
            for place, text in axis.ticks
        ]
    ordered = sorted(lines, key=lambda line: (line.best, line.rank))
    return svg("parallel coordinates of all trials", [*map(path, ordered), *drawn])


def plot(label: str, across_axis: Axis, up_axis: Axis, lines: Sequence[Line]) -> str:
    """Draw lines or single points over two axes."""
    drawn = [f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"></path>']
    for place, text in up_axis.ticks:
        y = up(place)
        drawn.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"></path>')
        drawn.append(f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}">{escape(text)}</text>')
    for place, text in across_axis.ticks:
        drawn.append(
            f'<text class="x" x="{across(place):.1f}" y="{BOTTOM + 22}">{escape(text)}</text>'
        )
    drawn.append(f'<text x="{LEFT}" y="{TOP - 16}" text-anchor="end">{escape(up_axis.name)}</text>')
    drawn.append(f'<text class="y" x="{RIGHT}" y="{BOTTOM + 42}">{escape(across_axis.name)}</text>')
    ordered = sorted(lines, key=lambda line: (line.best, line.rank))
    return svg(label, [*drawn, *map(path, ordered)])


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Draw a bar for each name, the longest first; values are parts of 1."""
    row, start = 30, 240
    most = max((value for _, value in values), default=1.0) or 1.0
    drawn = []
    for index, (name, value) in enumerate(values):
        y = row * index
        width = (WIDTH - start - 90) * value / most
        drawn.append(
            f'<text class="y" x="{start - 12}" y="{y + 20}">{escape(name)}</text>'
            f'<rect x="{start}" y="{y + 5}" width="{max(1.0, width):.1f}" height="20" rx="3" '
            f'fill="{COLOURS[2]}"></rect>'
            f'<text x="{start + width + 10:.1f}" y="{y + 20}">{value:.0%}</text>'
        )
    return svg("importance of each parameter", drawn, row * max(1, len(values)))


def rounded(low: float, high: float, num: int = 5) -> list[float]:
    """Return round numbers from below the smaller to above the larger value."""
    if math.isclose(low, high):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / num
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [gap * count for count in range(math.floor(low / gap), math.ceil(high / gap) + 1)]


def scale(name: str, values: Sequence[float], form: str = "{:g}") -> tuple[Axis, list[float]]:
    """Return an axis around all values, and the place of each."""
    ticks = rounded(min(values), max(values))
    first, last = ticks[0], ticks[-1]
    places = [(value - first) / (last - first) for value in values]
    shown = tuple(((tick - first) / (last - first), form.format(tick)) for tick in ticks)
    return Axis(name=name, ticks=shown), places
