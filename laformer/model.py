"""LAformer: a four-level U of blocks that attend globally and fit locally.

        lq ── embed ── blocks ─────────────────────── concat ── blocks ── refine ── head ── + lq
                          └ down ── blocks ──── concat ── blocks ── up ┘
                                      └ down ── … ── up ┘

Certain from the paper: linear attention with rank enhancement AND channel attention for global
perception, a convolutional gated feed-forward network for local fitting. The U, the sizes and the
way the two attentions share a block are ours (laformer/config.py).
"""

from collections.abc import Sequence
from itertools import count, islice
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from laformer.attention import (
    RELA,
    Branch,
    ChannelAttention,
    FeedForward,
    LayerNorm,
    Pointwise,
    convolve,
)
from laformer.config import NUM_LEVELS, ModelConfig
from laformer.geometry import BICUBIC_REACH, enlarge, pad_to_multiple


class Step(NamedTuple):
    """One residual step of a block: x += the sum of branch(norm(x)) over its branches."""

    norm: nn.Module
    branches: Sequence[Branch]

    @property
    def halo(self) -> int:
        """Rows that a part of an image needs of its neighbours."""
        return max(branch.halo for branch in self.branches)


class Block(nn.Module):
    """x += attention(LN x), then x += FFN(LN x).

    `parallel` adds RELA and channel attention of the same normalised input; `sequential` applies
    one after the other, each with its own norm; `alternating` uses RELA in even blocks and channel
    attention in odd ones, counted through the network; `spatial` uses RELA alone.
    """

    def __init__(self, config: ModelConfig, dim: int, index: int) -> None:
        super().__init__()
        alternating, odd = config.combination == "alternating", index % 2 == 1
        spatial = RELA(dim, head_dim=config.head_dim, phi=config.phi, kernel=config.kernel)
        self.norms = nn.ModuleList([LayerNorm(dim)])
        self.rela = None if alternating and odd else spatial
        without = config.combination == "spatial" or (alternating and not odd)
        self.channel = None if without else ChannelAttention(dim)
        if config.combination == "sequential":
            self.norms.append(LayerNorm(dim))
        self.ffn_norm = LayerNorm(dim)
        self.ffn = FeedForward(dim, expansion=config.expansion)
        # A block begins as the identity: training starts at the input image instead of at noise
        # (tests/perf/ablations.py measures the difference).
        for branch in (self.rela, self.channel, self.ffn):
            if branch is not None:
                nn.init.zeros_(branch.project.weight)

    def steps(self) -> list[Step]:
        """Return the residual steps in order."""
        branches = [branch for branch in (self.rela, self.channel) if branch is not None]
        shared = len(self.norms) < len(branches)
        groups = [branches] if shared else [[branch] for branch in branches]
        attention = [Step(norm, group) for norm, group in zip(self.norms, groups, strict=True)]
        return [*attention, Step(self.ffn_norm, [self.ffn])]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        for norm, branches in self.steps():
            normalised = norm(x)
            for branch in branches:
                x = x + branch(normalised)
        return x


def down(dim: int) -> nn.Sequential:
    """Halve height and width and double the channels, losing nothing."""
    return nn.Sequential(nn.Conv2d(dim, dim // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))


def up(dim: int) -> nn.Sequential:
    """Double height and width and halve the channels."""
    return nn.Sequential(nn.Conv2d(dim, dim * 2, 3, padding=1, bias=False), nn.PixelShuffle(2))


class LAformer(nn.Module):
    """The network. Built from a `ModelConfig`, which travels with the weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c1, c2, c3, c4 = (config.dim * 2**level for level in range(NUM_LEVELS))
        n1, n2, n3, n4 = config.blocks
        numbers = count()

        def stage(dim: int, num: int) -> nn.Sequential:
            return nn.Sequential(*(Block(config, dim, index) for index in islice(numbers, num)))

        self.embed = nn.Conv2d(config.in_channels, c1, 3, padding=1, bias=False)
        self.encoder1 = stage(c1, n1)
        self.down1 = down(c1)
        self.encoder2 = stage(c2, n2)
        self.down2 = down(c2)
        self.encoder3 = stage(c3, n3)
        self.down3 = down(c3)
        self.latent = stage(c4, n4)

        self.up3 = up(c4)
        self.reduce3 = Pointwise(2 * c3, c3)
        self.decoder3 = stage(c3, n3)
        self.up2 = up(c3)
        self.reduce2 = Pointwise(2 * c2, c2)
        self.decoder2 = stage(c2, n2)
        self.up1 = up(c2)
        # No reduction at full resolution: decoder and refinement work on 2 * dim channels.
        self.decoder1 = stage(2 * c1, n1)
        self.refinement = stage(2 * c1, config.refinement)
        answers = config.out_channels * config.scale**2
        self.head = nn.Conv2d(2 * c1, answers, 3, padding=1, bias=False)

    def forward(self, lq: Tensor) -> Tensor:
        """Restore lq (B, in_channels, H, W) in [0, 1], any H and W of at least 1 pixel.

        Return (B, out_channels, H * scale, W * scale) in the dtype of lq, which may be wider than
        that of the weights. The range is not clipped: noise may leave it, and so may the network.
        """
        scale = self.config.scale
        height, width = lq.shape[-2] * scale, lq.shape[-1] * scale
        x = pad_to_multiple(lq).contiguous(memory_format=torch.channels_last)

        e1 = self.encoder1(self.embed(x.to(self.embed.weight.dtype)))
        e2 = self.encoder2(self.down1(e1))
        e3 = self.encoder3(self.down2(e2))
        d3 = self.reduce3(torch.cat([self.up3(self.latent(self.down3(e3))), e3], dim=1))
        d2 = self.reduce2(torch.cat([self.up2(self.decoder3(d3)), e2], dim=1))
        d1 = torch.cat([self.up1(self.decoder2(d2)), e1], dim=1)
        features = self.refinement(self.decoder1(d1))

        return self.answer(features, x)[..., :height, :width].to(lq.dtype)

    def answer(self, features: Tensor, x: Tensor, *, part: bool = False) -> Tensor:
        """Add the last convolution to the image (B, in_channels, H, W), enlarged where need be.

        In float32 or wider: half floats would quantise the image. A `part` of an image brings one
        more row of features on both sides, and as many rows of the image as `image_reach` says.
        """
        with torch.autocast(features.device.type, enabled=False):
            wide = torch.promote_types(features.dtype, torch.float32)
            residual = convolve(features.to(wide), self.head.weight.to(wide), halo=int(part))
            image = x[:, : self.config.out_channels].to(wide)
            if self.config.scale == 1:
                return image + residual
            large = enlarge(image, self.config.scale, halo=self.image_reach if part else 0)
            return large + F.pixel_shuffle(residual, self.config.scale)

    @property
    def image_reach(self) -> int:
        """Rows of the image on both sides that one row of the answer depends on directly."""
        return 0 if self.config.scale == 1 else BICUBIC_REACH


def num_parameters(model: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
