"""Networks of equal parameters."""

import dataclasses
from bisect import bisect_left

import torch

from laformer.config import ModelConfig
from laformer.model import LAformer, num_parameters

STEPS_OF_ONE = 96
"""Expansion is varied in steps finer than those of any level, whose channels go by eights."""


def equal_parameters(config: ModelConfig, wanted: int) -> ModelConfig:
    """Return the configuration with the expansion that comes nearest to the wanted parameters."""

    def size(step: int) -> int:
        with torch.device("meta"):
            model = LAformer(dataclasses.replace(config, expansion=step / STEPS_OF_ONE))
        return num_parameters(model)

    candidates = range(STEPS_OF_ONE, 4 * STEPS_OF_ONE)
    above = max(1, bisect_left(candidates, wanted, key=size))
    nearest = min(candidates[above - 1 : above + 1], key=lambda step: abs(size(step) - wanted))
    return dataclasses.replace(config, expansion=nearest / STEPS_OF_ONE)
