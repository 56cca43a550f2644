"""Counts follow the field's convention, and our own arithmetic."""

import dataclasses

import torch
from torch._subclasses import FakeTensorMode

from laformer.attention import hidden_channels
from laformer.config import SIZES
from laformer.cost import cost, cost_of
from tests.perf.peers import Restormer
from tests.perf.sizes import equal_parameters


def test_restormer_has_its_published_size_and_cost():
    with FakeTensorMode():
        found = cost_of(Restormer(), torch.empty(1, 3, 256, 256))
    assert round(found.parameters / 1e6, 2) == 26.13
    assert round(found.weight_macs / 1e9, 2) == 140.99


def block_counts(config, dim, pixels):
    """Return parameters, MACs with weights and MACs between features of one parallel block."""
    hidden = hidden_channels(dim, config.expansion)
    rela = 3 * dim * dim + dim * config.kernel**2 + dim * dim
    channel = dim * dim + 9 * dim + dim * dim
    gate = dim * dim  # once per image, not per pixel
    fit = dim * 2 * hidden + 9 * 2 * hidden + hidden * dim
    between = pixels * (2 * dim * config.head_dim + dim)
    parameters = rela + channel + gate + fit + 2 * 2 * dim
    return parameters, pixels * (rela + channel + fit) + gate, between


def test_base_is_what_arithmetic_says():
    config, side = SIZES["base"], 256
    dim, (n1, n2, n3, n4) = config.dim, config.blocks
    stages = [  # channels, halvings of the side, blocks
        (dim, 0, n1), (2 * dim, 1, n2), (4 * dim, 2, n3), (8 * dim, 3, n4),
        (4 * dim, 2, n3), (2 * dim, 1, n2), (2 * dim, 0, n1 + config.refinement),
    ]  # fmt: skip
    convolutions = [  # weights, halvings
        (9 * 3 * dim, 0), (9 * 2 * dim * 3, 0),
        *((9 * (dim << i) * (dim << i) // 2, i) for i in range(3)),  # down
        *((9 * (dim << i) * (dim << i) * 2, i) for i in (1, 2, 3)),  # up
        *((2 * (dim << i) * (dim << i), i) for i in (1, 2)),  # reduce
    ]  # fmt: skip
    parameters = sum(weights for weights, _ in convolutions)
    macs = sum(weights * (side >> halvings) ** 2 for weights, halvings in convolutions)
    between = 0
    for channels, halvings, num in stages:
        counts = block_counts(config, channels, (side >> halvings) ** 2)
        parameters, macs, between = (
            total + num * each
            for total, each in zip((parameters, macs, between), counts, strict=True)
        )
    assert dataclasses.astuple(cost(config, side, side)) == (parameters, macs, between)


def test_cost_is_linear_in_pixels():
    small, large = (cost(SIZES["tiny"], side, side) for side in (64, 128))
    gates = 9 * 12**2 * 100  # per image: far below the rest
    assert abs(large.weight_macs - 4 * small.weight_macs) < gates
    assert large.attention_macs == 4 * small.attention_macs


def test_equal_parameters_are_equal():
    wanted = cost(SIZES["tiny"], 8, 8).parameters
    for options in ({"kernel": 0}, {"combination": "spatial"}, {"combination": "sequential"}):
        config = equal_parameters(dataclasses.replace(SIZES["tiny"], **options), wanted)
        assert abs(cost(config, 8, 8).parameters / wanted - 1) < 0.005
