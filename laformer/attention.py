"""RELA, channel attention and the gated feed-forward network: the three sublayers of a block.

Source: Ai et al., "Breaking Complexity Barriers: High-Resolution Image Restoration with Rank
Enhanced Linear Attention", arXiv 2505.16157. The paper's: linear attention whose rank a
lightweight depthwise convolution restores, channel attention beside it without softmax, and a
convolutional gated feed-forward network. Ours: every size, kernel and feature map named here.

Both attentions look at the whole image only through small sums, and every convolution reaches a
few rows. So each sublayer is a `Branch`: it can *summarise* any part of an image and, given the
added sums, *transform* any part (laformer/stripes.py). `forward` does both at once, from the same
small functions.
"""

from functools import reduce
from typing import Any, NamedTuple, Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from laformer import kernels
from laformer.config import Phi
from laformer.kernels import EPS

TOKENS_AT_ONCE = 2048
"""Tokens whose temporaries stay in the caches of a CPU core (tests/perf/network.py)."""


def feature_map(x: Tensor, phi: Phi) -> Tensor:
    """Return the elementwise non-negative phi(x) that stands in for the softmax kernel.

    ELU + 1 is written as min(exp(x), 1) + max(x, 0): three times as fast as F.elu on a CPU.
    """
    return x.clamp(max=0).exp() + x.relu() if phi == "elu" else x.relu()


class Pointwise(nn.Linear):
    """A 1x1 convolution without bias, as the matrix product that it is."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(dim, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out, H, W); without a copy when x is channels_last."""
        return pointwise(x, self.weight)


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the channels of (B, C, H, W) by weight (out, C)."""
    return F.linear(x.permute(0, 2, 3, 1), weight).permute(0, 3, 1, 2)


def add_into(y: Tensor, x: Tensor) -> Tensor:
    """Return y + x, in the memory of y unless gradients or another type forbid it: y is lost."""
    return y + x if torch.is_grad_enabled() or x.dtype != y.dtype else y.add_(x)


def multiply_into(y: Tensor, x: Tensor) -> Tensor:
    """Return y * x, in the memory of y unless gradients or another type forbid it: y is lost."""
    return y * x if torch.is_grad_enabled() or x.dtype != y.dtype else y.mul_(x)


def inner(part: Tensor, halo: int) -> Tensor:
    """Return part (B, C, H, W) without its first and last `halo` rows."""
    return part[:, :, halo : part.shape[2] - halo]


def convolve(part: Tensor, weight: Tensor, halo: int) -> Tensor:
    """Convolve a part that brings `halo` rows of its neighbours, zeros where there are none.

    Depthwise when weight (out, in, k, k) has one input channel. Return the rows of the part
    alone. A whole image brings none and is padded; a part brings as many as the kernel reaches.
    """
    reach = weight.shape[-1] // 2
    groups = part.shape[1] // weight.shape[1]
    return F.conv2d(part, weight, padding=(reach - halo, reach), groups=groups)


class KeyValueSums(NamedTuple):
    """What linear attention needs to know of an image; sums over its N pixels, float32 or wider.

    `kv` is sum_j phi(K_j)^T V_j (B, heads, d, d); `k` is sum_j phi(K_j) (B, heads, 1, d);
    `num` is N. Sums of disjoint parts add up to the sums of the whole.
    """

    kv: Tensor
    k: Tensor
    num: int

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the number of pixels."""
        return self.kv, self.k

    def add(self, other: "KeyValueSums") -> "KeyValueSums":
        """Return the sums of both parts together."""
        return KeyValueSums(self.kv + other.kv, self.k + other.k, self.num + other.num)


class ChannelSums(NamedTuple):
    """What channel attention needs to know of an image.

    `total` is the sum over its `num` pixels (B, C, 1, 1), float32 or wider. Sums of disjoint
    parts add up to the sums of the whole.
    """

    total: Tensor
    num: int

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the number of pixels."""
        return (self.total,)

    def add(self, other: "ChannelSums") -> "ChannelSums":
        """Return the sums of both parts together."""
        return ChannelSums(self.total + other.total, self.num + other.num)


class Sums(Protocol):
    """What a branch needs to know of an image."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All but the number of pixels, which is the last field."""

    def add(self, other: Self) -> Self:
        """Return the sums of both parts together."""


class Branch(Protocol):
    """What the three sublayers share: whole image in, or part by part.

    A part is (B, C, H + 2 * halo, W): its rows and `halo` rows of its neighbours on both sides,
    zeros beyond the border of the image. All projections are without bias, so zeros stay zeros
    up to the convolution that pads with them.
    """

    @property
    def halo(self) -> int:
        """Rows that a part needs of its neighbours."""

    def __call__(self, x: Tensor) -> Tensor:
        """Map a whole image (B, C, H, W) to the same shape."""

    def summarise(self, part: Tensor) -> Sums | None:
        """Return what the part adds to the sums; None when the branch has no global part."""

    def transform(self, part: Tensor, sums: Any, /) -> Tensor:
        """Map the part's own rows, given the branch's sums over the whole image."""


def summarise(k: Tensor, v: Tensor, phi: Phi) -> KeyValueSums:
    """Sum phi(K)^T V and phi(K) over the tokens of one part: k and v (B, heads, N, d)."""
    if kernels.usable(k, v) and k.shape[3] <= kernels.MOST_CHANNELS:
        return KeyValueSums(*kernels.key_value_sums(k, v, phi), k.shape[2])
    wide = torch.promote_types(k.dtype, torch.float32)
    with torch.autocast(k.device.type, enabled=False):
        parts = (
            (feature_map(packed(some_k), phi).to(wide), some_v.to(wide))
            for some_k, some_v in zip(in_cache(k), in_cache(v), strict=True)
        )
        sums = (KeyValueSums(a.mT @ b, a.sum(dim=2, keepdim=True), a.shape[2]) for a, b in parts)
        return reduce(KeyValueSums.add, sums)


def attend(q: Tensor, sums: KeyValueSums, phi: Phi) -> Tensor:
    """Return LA_i = phi(Q_i) KV / (phi(Q_i) . K + eps) for q (B, heads, N, d).

    Means replace sums in both terms: the ratio is the same and stays in range for any N.
    """
    if kernels.usable(q, *sums.tensors) and q.shape[3] <= kernels.MOST_CHANNELS:
        return kernels.attend(q, sums.kv, sums.k, sums.num, phi)
    kv, k = sums.kv / sums.num, (sums.k / sums.num).mT
    with torch.autocast(q.device.type, enabled=False):

        def answer(some: Tensor) -> Tensor:
            wide = feature_map(packed(some), phi).to(kv.dtype)
            return ((wide @ kv) / (wide @ k + EPS)).to(some.dtype)

        parts = in_cache(q)
        if len(parts) == 1:
            return answer(q)
        # Token by token in memory: what becomes of it is a channels_last map without a copy.
        out = q.new_empty([q.shape[i] for i in (0, 2, 1, 3)]).transpose(1, 2)
        for part, target in zip(parts, in_cache(out), strict=True):
            target.copy_(answer(part))
        return out


def in_cache(tokens: Tensor) -> tuple[Tensor, ...]:
    """Cut (B, heads, N, d) into parts whose temporaries a CPU's caches hold.

    Not where gradients keep all temporaries anyway, nor where a compiler sees the whole.
    """
    if tokens.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return (tokens,)
    return torch.split(tokens, TOKENS_AT_ONCE, dim=2)


def packed(tokens: Tensor) -> Tensor:
    """Return tokens side by side in memory where that pays.

    On a CPU elementwise functions of tokens with gaps take three times as long.
    """
    return tokens.contiguous() if tokens.device.type == "cpu" else tokens


class RELA(nn.Module):
    """Rank-enhanced linear attention: W_o [ LA(Q, K, V) + DWConv_kxk(V) ].

    The map of linear attention has at most rank d, the head width. The depthwise convolution
    adds a banded Toeplitz matrix of full rank to it (tests/laformer/test_attention.py).
    """

    def __init__(self, dim: int, *, head_dim: int, phi: Phi, kernel: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.phi: Phi = phi
        self.qkv = Pointwise(dim, 3 * dim)
        self.local = (
            nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
            if kernel
            else None
        )
        self.project = Pointwise(dim, dim)

    @property
    def halo(self) -> int:
        """Rows that a part needs of its neighbours."""
        return 0 if self.local is None else self.local.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        return self._mix(q, v, self._sums(k, v), halo=0)

    def summarise(self, part: Tensor) -> KeyValueSums:
        """Return the sums over the part's own rows; queries are not needed."""
        w_kv = self.qkv.weight[part.shape[1] :]
        return self._sums(*pointwise(inner(part, self.halo), w_kv).chunk(2, dim=1))

    def transform(self, part: Tensor, sums: KeyValueSums) -> Tensor:
        """Map the part's own rows, given the sums of the whole image; keys are not needed."""
        w_q, _, w_v = self.qkv.weight.chunk(3)
        q = pointwise(inner(part, self.halo), w_q)
        return self._mix(q, pointwise(part, w_v), sums, halo=self.halo)

    def _sums(self, k: Tensor, v: Tensor) -> KeyValueSums:
        return summarise(self._tokens(k), self._tokens(v), self.phi)

    def _mix(self, q: Tensor, v: Tensor, sums: KeyValueSums, *, halo: int) -> Tensor:
        tokens = attend(self._tokens(q), sums, self.phi)
        batch, dim, height, width = q.shape
        out = tokens.transpose(1, 2).reshape(batch, height, width, dim).permute(0, 3, 1, 2)
        if self.local is not None:
            out = add_into(out, convolve(v, self.local.weight, halo))
        mixed: Tensor = self.project(out)
        return mixed

    def _tokens(self, x: Tensor) -> Tensor:
        """Turn (B, C, H, W) into (B, heads, N, d): a view when x is channels_last."""
        batch, dim, height, width = x.shape
        heads = dim // self.head_dim
        tokens = x.permute(0, 2, 3, 1).reshape(batch, height * width, heads, self.head_dim)
        return tokens.transpose(1, 2)


class ChannelAttention(nn.Module):
    """Channel attention without softmax: a depthwise feature scaled by its gated global mean."""

    halo = 1
    """Rows that a part needs of its neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.embed = Pointwise(dim, dim)
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.gate = Pointwise(dim, dim)
        self.project = Pointwise(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        features = self._features(x, halo=0)
        return self._scale(features, self._sums(features))

    def summarise(self, part: Tensor) -> ChannelSums:
        """Return the sums over the part's own rows."""
        return self._sums(self._features(part, halo=self.halo))

    def transform(self, part: Tensor, sums: ChannelSums) -> Tensor:
        """Map the part's own rows, given the sums of the whole image."""
        return self._scale(self._features(part, halo=self.halo), sums)

    def _features(self, x: Tensor, *, halo: int) -> Tensor:
        return F.gelu(convolve(self.embed(x), self.local.weight, halo))

    def _sums(self, features: Tensor) -> ChannelSums:
        wide = torch.promote_types(features.dtype, torch.float32)
        num = features.shape[2] * features.shape[3]
        return ChannelSums(features.sum(dim=(2, 3), keepdim=True, dtype=wide), num)

    def _scale(self, features: Tensor, sums: ChannelSums) -> Tensor:
        mean = (sums.total / sums.num).to(features.dtype)
        scaled: Tensor = self.project(multiply_into(features, torch.sigmoid(self.gate(mean))))
        return scaled


class FeedForward(nn.Module):
    """The gated depthwise feed-forward network: local fitting. 1x1, DW3x3, GELU(a) * b, 1x1."""

    halo = 1
    """Rows that a part needs of its neighbours."""

    def __init__(self, dim: int, *, expansion: float) -> None:
        super().__init__()
        hidden = hidden_channels(dim, expansion)
        self.embed = Pointwise(dim, 2 * hidden)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = Pointwise(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self._fit(x, halo=0)

    def summarise(self, part: Tensor) -> None:
        """Nothing here is global."""

    def transform(self, part: Tensor, _: None = None) -> Tensor:
        """Map the part's own rows."""
        return self._fit(part, halo=self.halo)

    def _fit(self, x: Tensor, *, halo: int) -> Tensor:
        if kernels.usable(x, self.embed.weight, self.local.weight):
            gated = kernels.gated_depthwise(self.embed(x), self.local.weight, halo)
        else:
            # Each half in memory of its own: on a CPU elementwise functions of one half of the
            # channels take three times as long.
            halves = zip(self.embed.weight.chunk(2), self.local.weight.chunk(2), strict=True)
            a, b = (convolve(pointwise(x, embed), local, halo) for embed, local in halves)
            gated = multiply_into(b, F.gelu(a))
        fitted: Tensor = self.project(gated)
        return fitted


def hidden_channels(dim: int, expansion: float) -> int:
    """Return about dim * expansion in whole eights: matrix units take half floats by eights."""
    return max(8, 8 * round(dim * expansion / 8))


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
