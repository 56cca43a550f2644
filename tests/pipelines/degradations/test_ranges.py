"""Ranges: what is refused, and how it is said."""

import math

import pytest

from pipelines.degradations.haze import Haze


@pytest.mark.parametrize("beta", [(1, 0.5), (-1, 1), (0, math.inf), (math.nan, 1), (0, math.nan)])
def test_a_range_out_of_order_or_limits_is_refused(beta):
    with pytest.raises(ValueError, match=r"beta .* is not 0 <= low <= high <= 100; use for exam"):
        Haze(beta=beta)


def test_the_error_names_the_value_and_an_example():
    with pytest.raises(ValueError, match=r"^airlight \(0.9, 1.5\) .* example \(0\.7, 1\.0\)$"):
        Haze(airlight=(0.9, 1.5))


@pytest.mark.parametrize("cast", [-0.1, 1.1, math.nan])
def test_what_is_no_part_of_one_is_refused(cast):
    with pytest.raises(ValueError, match=rf"cast {cast} is outside \[0, 1\]; use for example 0.03"):
        Haze(cast=cast)
