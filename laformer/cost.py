"""How large a network is and how much it computes: parameters and multiply-accumulates (MACs).

The literature counts MACs of weights alone: of convolutions and 1x1 projections. Under that
convention Restormer has 26.13 M parameters and 140.99 GMACs at 256 x 256. Products of features
with features, which is what attention is, are left out there and given apart here. Norms,
activations, sums and additions are counted by nobody.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from laformer.config import ModelConfig
from laformer.model import LAformer, num_parameters

BETWEEN_FEATURES = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
"""Batched products: both factors come from the image."""


@dataclass(frozen=True)
class Cost:
    """What one forward pass of one image takes."""

    parameters: int
    weight_macs: int
    """Multiply-accumulates with weights: the convention of the literature."""
    attention_macs: int
    """Multiply-accumulates between features."""


def cost(config: ModelConfig, height: int = 256, width: int = 256) -> Cost:
    """Count what a LAformer takes for an image of height x width pixels."""
    with FakeTensorMode():
        return cost_of(LAformer(config), torch.empty(1, config.in_channels, height, width))


def cost_of(model: nn.Module, lq: torch.Tensor) -> Cost:
    """Count what a network takes for lq whose products of features are batched matmuls.

    Nothing is computed under FakeTensorMode.
    """
    # A PyTorch count of floating-point operations: two for each multiply-accumulate.
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(lq)
    counted = counter.get_flop_counts().get("Global", {})
    attention = sum(counted.get(operator, 0) for operator in BETWEEN_FEATURES)
    return Cost(num_parameters(model), (sum(counted.values()) - attention) // 2, attention // 2)
