"""Other attentions and another network, written from their public descriptions, for measuring only.

Restormer: Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration",
CVPR 2022. Windows: Liu et al., "Swin Transformer", ICCV 2021, without the shift.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class WindowAttention(nn.Module):
    """Softmax attention within square windows; sides are multiples of the window."""

    def __init__(self, dim, window, head_dim):
        super().__init__()
        self.window, self.head_dim = window, head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.project = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        batch, dim, height, width = x.shape
        side, heads = self.window, dim // self.head_dim
        rows, columns = height // side, width // side
        windows = x.permute(0, 2, 3, 1).reshape(batch, rows, side, columns, side, dim)
        windows = windows.transpose(2, 3).reshape(-1, side * side, dim)
        qkv = self.qkv(windows).reshape(-1, side * side, 3, heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(windows.shape)
        out = self.project(out).reshape(batch, rows, columns, side, side, dim).transpose(2, 3)
        return out.reshape(batch, height, width, dim).permute(0, 3, 1, 2)


class TransposedAttention(nn.Module):
    """Restormer's: softmax between channels, queries and keys normalised over all pixels."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.local = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.project = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x):
        q, k, v = (
            part.unflatten(1, (self.heads, -1)).flatten(3)
            for part in self.local(self.qkv(x)).chunk(3, dim=1)
        )
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        return self.project((weights @ v).reshape(x.shape))


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        tokens = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return tokens.permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    def __init__(self, dim, expansion):
        super().__init__()
        hidden = int(dim * expansion)
        self.embed = nn.Conv2d(dim, 2 * hidden, 1, bias=False)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x):
        a, b = self.local(self.embed(x)).chunk(2, dim=1)
        return self.project(F.gelu(a) * b)


class RestormerBlock(nn.Module):
    def __init__(self, dim, heads, expansion):
        super().__init__()
        self.norms = nn.ModuleList([Norm(dim), Norm(dim)])
        self.attention = TransposedAttention(dim, heads)
        self.feed_forward = GatedFeedForward(dim, expansion)

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.feed_forward(self.norms[1](x))


class Restormer(nn.Module):
    """The network as published: 26.13 M parameters, 140.99 GMACs at 256 x 256."""

    def __init__(self, dim=48, blocks=(4, 6, 6, 8), refinement=4, expansion=2.66):
        super().__init__()

        def stage(level, num, width=None):
            width = width or dim * 2**level
            return nn.Sequential(*(RestormerBlock(width, 2**level, expansion) for _ in range(num)))

        def conv(inputs, outputs, kernel=3):
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)

        widths = [dim * 2**level for level in range(4)]
        self.embed = conv(3, dim)
        self.encoders = nn.ModuleList([stage(level, blocks[level]) for level in range(4)])
        self.downs = nn.ModuleList(
            [nn.Sequential(conv(w, w // 2), nn.PixelUnshuffle(2)) for w in widths[:3]]
        )
        self.ups = nn.ModuleList(
            [nn.Sequential(conv(w, 2 * w), nn.PixelShuffle(2)) for w in widths[1:]]
        )
        self.reduces = nn.ModuleList([nn.Identity(), *(conv(2 * w, w, 1) for w in widths[1:3])])
        wide = stage(0, blocks[0], 2 * dim)
        self.decoders = nn.ModuleList([wide, stage(1, blocks[1]), stage(2, blocks[2])])
        self.refinement = stage(0, refinement, 2 * dim)
        self.head = conv(2 * dim, 3)

    def forward(self, lq):
        x, skips = self.embed(lq), []
        for encoder, down in zip(self.encoders[:3], self.downs, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.encoders[3](x)
        for level in (2, 1, 0):
            x = self.reduces[level](torch.cat([self.ups[level](x), skips[level]], dim=1))
            x = self.decoders[level](x)
        return self.head(self.refinement(x)) + lq
