"""RELA, channel attention and the gated feed-forward network: the three sublayers of a block.

Source: Ai et al., "Breaking Complexity Barriers: High-Resolution Image Restoration with Rank
Enhanced Linear Attention", arXiv 2505.16157. The paper's: linear attention whose rank a
lightweight depthwise convolution restores, channel attention beside it without softmax, and a
convolutional gated feed-forward network. Ours: every size, kernel and feature map named here.

Both attentions look at the whole image only through small sums. Each says so in two functions:
*summarise* turns any part of the image into its sums, and *attend* or *scale* applies the
sums of the whole image to any part. Parts add up exactly, so an image may be split.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from laformer.config import Phi

EPS = 1e-6


def feature_map(x: Tensor, phi: Phi) -> Tensor:
    """Return the elementwise non-negative phi(x) that stands in for the softmax kernel."""
    return F.elu(x) + 1 if phi == "elu" else F.relu(x)


class KeyValueSums(NamedTuple):
    """What linear attention needs to know of an image; sums over its N pixels, float32 or wider.

    `kv` is sum_j phi(K_j)^T V_j (B, heads, d, d); `k` is sum_j phi(K_j) (B, heads, 1, d);
    `num` is N. Sums of disjoint parts add up to the sums of the whole.
    """

    kv: Tensor
    k: Tensor
    num: int

    def add(self, other: "KeyValueSums") -> "KeyValueSums":
        """Return the sums of both parts together."""
        return KeyValueSums(self.kv + other.kv, self.k + other.k, self.num + other.num)


def summarise(k: Tensor, v: Tensor) -> KeyValueSums:
    """Sum over the tokens of one part: k = phi(K) and v, both (B, heads, N, d)."""
    wide = torch.promote_types(k.dtype, torch.float32)
    # The mean inside, times N outside, keeps the product in range when k and v are half floats.
    num = k.shape[2]
    with torch.autocast(k.device.type, enabled=False):
        k, v = k.to(wide), v.to(wide)
        return KeyValueSums(k.transpose(-2, -1) @ v, k.sum(dim=2, keepdim=True), num)


def attend(q: Tensor, sums: KeyValueSums) -> Tensor:
    """Return LA_i = phi(Q_i) KV / (phi(Q_i) . K + eps) for q = phi(Q) (B, heads, N, d).

    Means replace sums in both terms: the ratio is the same and stays in range for any N.
    """
    kv, k = sums.kv / sums.num, sums.k / sums.num
    with torch.autocast(q.device.type, enabled=False):
        wide = q.to(kv.dtype)
        return ((wide @ kv) / (wide @ k.transpose(-2, -1) + EPS)).to(q.dtype)


class RELA(nn.Module):
    """Rank-enhanced linear attention: W_o [ LA(Q, K, V) + DWConv_kxk(V) ].

    The map of linear attention has at most rank d, the head width. The depthwise convolution
    adds a banded Toeplitz matrix of full rank to it (tests/laformer/test_attention.py).
    """

    def __init__(self, dim: int, *, head_dim: int, phi: Phi, kernel: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.phi: Phi = phi
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.local = (
            nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
            if kernel
            else None
        )
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        sums = summarise(feature_map(self._tokens(k), self.phi), self._tokens(v))
        tokens = attend(feature_map(self._tokens(q), self.phi), sums)
        batch, dim, height, width = x.shape
        out = tokens.transpose(1, 2).reshape(batch, height, width, dim).permute(0, 3, 1, 2)
        mixed: Tensor = self.project(out if self.local is None else out + self.local(v))
        return mixed

    def _tokens(self, x: Tensor) -> Tensor:
        """Turn (B, C, H, W) into (B, heads, N, d): a view when x is channels_last."""
        batch, dim, height, width = x.shape
        heads = dim // self.head_dim
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * width, heads, self.head_dim)
        return tokens.transpose(1, 2)


class ChannelAttention(nn.Module):
    """Channel attention without softmax: a depthwise feature scaled by its gated global mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(dim, dim, 1, bias=False)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.gate = nn.Conv2d(dim, dim, 1, bias=False)
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        x = F.gelu(self.local(self.embed(x)))
        return self.scale(x, x.mean(dim=(2, 3), keepdim=True))

    def scale(self, x: Tensor, mean: Tensor) -> Tensor:
        """Scale x by the gate of the image's channel means (B, C, 1, 1)."""
        scaled: Tensor = self.project(x * torch.sigmoid(self.gate(mean)))
        return scaled


class FeedForward(nn.Module):
    """The gated depthwise feed-forward network: local fitting. 1x1, DW3x3, GELU(a) * b, 1x1."""

    def __init__(self, dim: int, *, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.embed = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        a, b = self.local(self.embed(x)).chunk(2, dim=1)
        fitted: Tensor = self.project(F.gelu(a) * b)
        return fitted


class LayerNorm(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W), with bias."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        tokens = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, EPS)
        return tokens.permute(0, 3, 1, 2)
