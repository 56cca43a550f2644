"""Ranges from which a degradation draws: what is refused."""

from dataclasses import Field
from typing import Any, ClassVar, Protocol


class Degradation(Protocol):
    """A dataclass whose defaults serve as examples."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def check_ranges(degradation: Degradation, **limits: tuple[float, float]) -> None:
    """Raise ValueError unless each named field is (low, high) in order and within its limits."""
    for name, (floor, ceiling) in limits.items():
        drawn = getattr(degradation, name)
        low, high = drawn
        if not floor <= low <= high <= ceiling:
            example = degradation.__dataclass_fields__[name].default
            raise ValueError(
                f"{name} {drawn} is not {floor} <= low <= high <= {ceiling}; "
                f"use for example {example}"
            )


def check_parts(degradation: Degradation, *names: str) -> None:
    """Raise ValueError unless each named field lies in [0, 1]."""
    for name in names:
        value = getattr(degradation, name)
        if not 0 <= value <= 1:
            example = degradation.__dataclass_fields__[name].default
            raise ValueError(f"{name} {value} is outside [0, 1]; use for example {example}")
