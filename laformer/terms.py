"""What a training minimises, as a person writes it: "charbonnier + 0.05 frequency".

Standard library only: configurations check it before torch is there.
"""

import math
from typing import Literal, NamedTuple, cast, get_args

Name = Literal["charbonnier", "l1", "frequency"]
EXAMPLE = '"charbonnier + 0.05 frequency"'


class Term(NamedTuple):
    """One loss of a sum."""

    weight: float
    """Factor before the loss, above 0."""
    name: Name
    """A function in `laformer.losses.LOSSES`."""


def parse(text: str) -> tuple[Term, ...]:
    """Return the terms of a sum; a name without a number weighs 1.

    >>> [tuple(term) for term in parse("charbonnier + 0.05 frequency")]
    [(1.0, 'charbonnier'), (0.05, 'frequency')]

    Raises ValueError naming the part that is none.
    """
    return tuple(_term(part, text) for part in text.split("+"))


def _term(part: str, text: str) -> Term:
    """Read one part of the sum `text`."""
    *weight, name = part.split() or [""]
    if name not in get_args(Name):
        raise ValueError(
            f"loss {text!r}: {name!r} is none of {', '.join(get_args(Name))}; "
            f"use for example {EXAMPLE}"
        )
    try:
        (factor,) = map(float, weight or ["1"])
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise ValueError(
            f"loss {text!r}: {' '.join(weight)!r} before {name} is no number above 0; "
            f"use for example {EXAMPLE}"
        )
    return Term(factor, cast("Name", name))
