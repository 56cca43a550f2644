"""The maps by which a trained network's attention mixes tokens, and their singular values."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812

from laformer.attention import EPS, RELA, feature_map

SIDE = 16
"""Rows and columns of the tokens that are looked at: the maps are 256 x 256."""


class Map(NamedTuple):
    """The singular values of one map, over the largest, and two counts of them."""

    values: list[float]
    rank: int
    """Those that are not zero to float64."""
    effective: float
    """exp of their entropy (Roy and Vetterli 2007): how many equal ones would spread as far."""


def layers(model, lq):
    """Return {name: what enters it} for every RELA of a network that restores lq (1, 3, H, W)."""
    seen, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, RELA):
            hooks.append(
                module.register_forward_hook(
                    lambda _, inputs, __, name=name: seen.setdefault(name, inputs[0])
                )
            )
    with torch.inference_mode():
        model(lq)
    for hook in hooks:
        hook.remove()
    return seen


def maps(rela, x):
    """Return the maps of the first head for its first channel, over the middle tokens of x.

    `softmax` is what softmax attention would make of the same queries and keys; `linear` is what
    linear attention makes of them; `RELA` adds the Toeplitz matrix of the depthwise convolution.
    """
    top, left = (x.shape[2] - SIDE) // 2, (x.shape[3] - SIDE) // 2
    x = x[:, :, top : top + SIDE, left : left + SIDE]
    with torch.no_grad():
        q, k, _ = rela.qkv(x.clone()).chunk(3, dim=1)
    q, k = (t[0, : rela.head_dim].flatten(1).T.double() for t in (q, k))
    scores = feature_map(q, rela.phi) @ feature_map(k, rela.phi).T / len(q)
    found = {"softmax": torch.softmax(q @ k.T / math.sqrt(rela.head_dim), dim=1)}
    found["linear"] = scores / (scores.sum(dim=1, keepdim=True) + EPS)
    if rela.local is not None:
        found["RELA"] = found["linear"] + toeplitz(rela.local.weight[0].detach().double())
    return {name: measured(each) for name, each in found.items()}


def toeplitz(weight):
    """Return the matrix (N, N) of a convolution of one channel with weight (1, k, k)."""
    units = torch.eye(SIDE * SIDE, dtype=weight.dtype).reshape(-1, 1, SIDE, SIDE)
    return F.conv2d(units, weight[None], padding=weight.shape[-1] // 2).flatten(1).T


def measured(matrix):
    values = torch.linalg.svdvals(matrix)
    share = values / values.sum()
    entropy = -(share * share.clamp(min=1e-300).log()).sum()
    relative = [float(f"{value:.3g}") for value in values / values[0]]
    return Map(relative, int(torch.linalg.matrix_rank(matrix)), round(float(entropy.exp()), 1))
