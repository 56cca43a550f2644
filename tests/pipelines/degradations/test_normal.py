"""Numbers of a table: the moments and the distribution are those of the normal one."""

from statistics import NormalDist

import numpy as np
import pytest

from pipelines.degradations.normal import quantiles, standard_normal


def test_moments_are_those_of_the_normal_distribution():
    numbers = standard_normal(np.random.default_rng(0), (1000, 1000, 3)).astype(np.float64)
    moments = [float((numbers**power).mean()) for power in (1, 2, 3, 4)]
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.02)
    assert moments[:2] == pytest.approx([0, 1], abs=0.002)


def test_the_distribution_function_is_right_to_the_table():
    table = np.sort(quantiles())
    wanted = [(index + 0.5) / len(table) for index in range(len(table))]
    found = [NormalDist().cdf(float(value)) for value in table[::997]]
    assert found == pytest.approx(wanted[::997], abs=2**-16)
    assert table[0] == -table[-1]


def test_neighbours_and_channels_are_independent():
    numbers = standard_normal(np.random.default_rng(1), (512, 512, 3)).astype(np.float64)
    pairs = (
        (numbers[:, 1:], numbers[:, :-1]),
        (numbers[1:], numbers[:-1]),
        (numbers[..., 0], numbers[..., 1]),
        (numbers[..., 0], numbers[..., 2]),
        (numbers[:, 4:], numbers[:, :-4]),
    )
    for a, b in pairs:
        assert abs((a * b).mean()) < 0.006


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 1), (2, 3, 3)])
def test_any_shape_and_the_same_numbers_of_the_same_generator(shape):
    first, again = (standard_normal(np.random.default_rng(3), shape) for _ in range(2))
    assert first.shape == shape
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
