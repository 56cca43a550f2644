"""Where the values of a search come from: ranges and choices. Standard library only."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Real:
    """A number between two bounds."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios count as equal distances, as they do for a learning rate."""

    def __post_init__(self) -> None:
        """Refuse bounds that bound nothing."""
        check_bounds(self.low, self.high, log=self.log)

    def parse(self, value: Any) -> float:
        """Return a value as it is meant. Raises ValueError outside the bounds."""
        return float(within(self, value))

    def draw(self, rng: random.Random) -> float:
        """Draw a value."""
        if self.log:
            return min(self.high, math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return rng.uniform(self.low, self.high)

    def grid(self, points: int) -> tuple[float, ...]:
        """Return that many values from bound to bound."""
        return tuple(spread(self.low, self.high, points, log=self.log))

    def near(self, value: float, rng: random.Random) -> float:
        """Return a value a little smaller or larger."""
        return min(self.high, max(self.low, value * rng.choice((0.8, 1.25))))

    def place(self, value: float) -> float:
        """Return where between the bounds a value is, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds, both included."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        """Refuse bounds that bound nothing."""
        check_bounds(self.low, self.high, log=self.log)

    def parse(self, value: Any) -> int:
        """Return a value as it is meant. Raises ValueError outside the bounds."""
        return int(within(self, value))

    def draw(self, rng: random.Random) -> int:
        """Draw a value."""
        if self.log:
            return round(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return rng.randint(self.low, self.high)

    def grid(self, points: int) -> tuple[int, ...]:
        """Return at most that many values from bound to bound."""
        return tuple(dict.fromkeys(map(round, spread(self.low, self.high, points, log=self.log))))

    def near(self, value: int, rng: random.Random) -> int:
        """Return a value a little smaller or larger."""
        step = max(1, round(value * 0.2))
        return min(self.high, max(self.low, value + rng.choice((-step, step))))

    def place(self, value: int) -> float:
        """Return where between the bounds a value is, from 0 to 1."""
        return Real(self.low, self.high, self.log).place(value)


@dataclass(frozen=True)
class Choice:
    """One of some values, in an order that means something if they have one."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse a choice that is none."""
        if len(set(self.options)) < max(2, len(self.options)):
            raise ValueError(f"options {self.options} are not two or more; name different ones")

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the options as words."""
        return tuple(map(str, self.options))

    def parse(self, value: Any) -> Any:
        """Return a value as it is meant: JSON has no tuples. Raises ValueError for no option."""
        value = tuple(value) if isinstance(value, list) else value
        if value not in self.options:
            raise ValueError(f"{value} is none of {', '.join(self.labels)}")
        return self.options[self.options.index(value)]

    def draw(self, rng: random.Random) -> Any:
        """Draw an option."""
        return rng.choice(self.options)

    def grid(self, _points: int) -> tuple[Any, ...]:
        """Return all options."""
        return self.options

    def near(self, value: Any, rng: random.Random) -> Any:
        """Return a neighbour among the options."""
        place = self.options.index(value) + rng.choice((-1, 1))
        return self.options[min(len(self.options) - 1, max(0, place))]

    def place(self, value: Any) -> float:
        """Return where among the options a value is, from 0 to 1."""
        return self.options.index(value) / (len(self.options) - 1)


Distribution: TypeAlias = Real | Whole | Choice


def check_bounds(low: float, high: float, *, log: bool) -> None:
    """Refuse an empty range, and a logarithm of what has none."""
    if not low < high:
        raise ValueError(f"bounds {low} and {high} hold nothing; give the smaller one first")
    if log and low <= 0:
        raise ValueError(f"low {low} has no logarithm; use a bound above 0, or log=False")


def within(bounds: Real | Whole, value: Any) -> Any:
    """Return a value. Raises ValueError outside the bounds."""
    if not bounds.low <= value <= bounds.high:
        raise ValueError(f"{value} is outside {bounds.low} to {bounds.high}")
    return value


def spread(low: float, high: float, points: int, *, log: bool) -> Iterator[float]:
    """Yield so many numbers from bound to bound."""
    for index in range(points):
        part = index / (points - 1) if points > 1 else 0.5
        if part in (0, 1):
            yield (low, high)[int(part)]
        else:
            yield low * (high / low) ** part if log else low + (high - low) * part
