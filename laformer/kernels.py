"""Triton kernels for inference on a GPU: what PyTorch does in several passes, in one.

At full resolution the network is bound by memory, not by arithmetic. So each function here reads
its input once and writes its result once, and keeps in registers what laformer/attention.py would
write out between two operators. The formulas are those of that file, which asks `usable` first:
there are no gradients here. Arithmetic and sums are float32; the operands of a product keep the
dtype of the input.

Offsets are int64: a feature map of a 16384 x 16384 image has more than 2**31 values.
"""

# ruff: noqa: PLR0917 (a kernel takes its pointers, sizes and strides one by one)

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from laformer.config import Phi

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:
    triton = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Kernels run on the CPU, for tests. Triton too decides so when it decorates a kernel."""

EPS = 1e-6
"""Keeps the denominator of attention, and the deviation of a norm, from zero."""
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MOST_CHANNELS = 64
"""The widest head that a tile of `key_value_sums` and `attend` holds."""

# Chosen for the 132 multiprocessors of an H200, with 64 Ki registers and 228 KiB each.
LINE = 64  # channels of a depthwise tile: 128 bytes of half floats, a line of memory
PIXELS = 8  # its width: 4 values per thread, so that the 18 weights of each stay in registers
ROWS = 16  # its height: input rows slide through registers, 18 are read for 16 written
STAGES = 4  # input rows under way at once: memory answers late
TOKENS = 64  # tokens of an attention tile: the fewest that feed all four tensor cores
PROGRAMS = 1024  # of `key_value_sums`: 8 per multiprocessor, and few partial sums to add
STEPS = 8  # token tiles per program of `attend`: the key-value state is loaded once for them


def usable(x: Tensor, *weights: Tensor) -> bool:
    """Return whether the kernels can take x, and no gradient of x or the weights is recorded.

    On every GPU they first have to agree with their twins; where they do not, they rest.
    """
    return (
        triton is not None
        and (x.is_cuda or INTERPRETED)
        and x.dtype in DTYPES
        and not torch.compiler.is_compiling()
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights)))
        and agree(x.device)
    )


@cache
def agree(device: torch.device) -> bool:
    """Compare the kernels with plain formulas on a small input, once per process and device."""
    with torch.autocast(device.type, enabled=False), torch.no_grad():
        try:
            compare(device)
        except Exception as error:  # noqa: BLE001 (compilers and drivers raise what they like)
            warnings.warn(f"the kernels rest on {device}, PyTorch works: {error}", stacklevel=2)
            return False
    return True


def compare(device: torch.device) -> None:
    """Raise AssertionError where a kernel is not its formula."""
    numbers = partial(torch.linspace, dtype=torch.float32, device=device)
    x = numbers(-2, 2, 2 * 32 * 9 * 11).sin().reshape(2, 32, 9, 11)
    weight = numbers(-1, 1, 32 * 9).reshape(32, 1, 3, 3)
    q, k, v = x.flatten(2)[:, :24].reshape(2, 3, 8, 99).mT.chunk(3, dim=1)
    a, b = F.conv2d(x, weight, padding=1, groups=32).chunk(2, dim=1)
    kv, ksum = k.relu().mT @ v, k.relu().sum(dim=2, keepdim=True)
    answers = q.relu() @ (kv / 99) / (q.relu() @ (ksum / 99).mT + EPS)
    ours = [
        gated_depthwise(x, weight, 0),
        *key_value_sums(k, v, "relu"),
        attend(q, kv, ksum, 99, "relu"),
    ]
    for found, expected in zip(ours, (F.gelu(a) * b, kv, ksum, answers), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def jit(kernel: Callable[..., Any]) -> Any:
    """Decorate with triton.jit where there is triton, so that this module imports anywhere."""
    return kernel if triton is None else triton.jit(kernel)


def gated_depthwise(x: Tensor, weight: Tensor, halo: int) -> Tensor:
    """Return GELU(a) * b (B, C, H, W) channels_last, where a, b are the halves of DWConv3x3(x).

    Args:
        x: (B, 2C, H + 2 * halo, W), any strides; fastest when channels_last and C % 16 == 0.
        weight: (2C, 1, 3, 3).
        halo: 0 pads all four sides with zeros; 1 pads left and right, x brings the rows.
    """
    batch, twice, tall, width = x.shape
    channels, height = twice // 2, tall - 2 * halo
    out = _channels_last(x, channels, height)
    grid = (_tiles(channels, LINE), _tiles(width, PIXELS), _tiles(height, ROWS) * batch)
    # Tap-major: a tile reads the same tap of neighbouring channels at once.
    taps = weight.reshape(twice, 9).t().contiguous()
    sizes = (channels, height, width, halo)
    tile = {"rows": ROWS, "pixels": PIXELS, "line": LINE, "stages": STAGES}
    _launch(_gated_depthwise, grid, *x.chunk(2, dim=1), taps, out, *sizes, *x.stride(), **tile)
    return out


def key_value_sums(k: Tensor, v: Tensor, phi: Phi) -> tuple[Tensor, Tensor]:
    """Return sum_j phi(k_j)^T v_j (B, heads, d, d) and sum_j phi(k_j) (B, heads, 1, d), float32.

    The same bits at every call: partial sums are added in a fixed order.

    Args:
        k: (B, heads, N, d) before the feature map, any strides; d is at most 64.
        v: (B, heads, N, d) of the same dtype, any strides.
        phi: the feature map.
    """
    batch, heads, num, dim = k.shape
    groups = batch * heads
    span = _tiles(num, max(1, PROGRAMS // groups))
    span = _tiles(span, TOKENS) * TOKENS
    parts = _tiles(num, span)
    kv = k.new_empty(parts, batch, heads, dim, dim, dtype=torch.float32)
    ksum = k.new_empty(parts, batch, heads, 1, dim, dtype=torch.float32)
    sizes = (groups, heads, num, dim, span)
    tile = {"phi": phi, "width": _width(dim), "tokens": TOKENS, "widen": INTERPRETED}
    grid = (groups, parts)
    _launch(_key_value_sums, grid, k, v, kv, ksum, *sizes, *k.stride(), *v.stride(), **tile)
    return kv.sum(dim=0), ksum.sum(dim=0)


def attend(q: Tensor, kv: Tensor, ksum: Tensor, num: int, phi: Phi) -> Tensor:
    """Return phi(q) (kv / num) / (phi(q) . (ksum / num) + eps) (B, heads, N, d) in q's dtype.

    The result lies token by token: `.transpose(1, 2).reshape(B, N, heads * d)` is a view.

    Args:
        q: (B, heads, N, d) before the feature map, any strides; d is at most 64.
        kv: (B, heads, d, d), the sums of `key_value_sums` over the whole image.
        ksum: (B, heads, 1, d), likewise.
        num: pixels of the whole image, which may be more than N.
        phi: the feature map.
    """
    batch, heads, tokens, dim = q.shape
    groups = batch * heads
    out = q.new_empty(batch, tokens, heads, dim).transpose(1, 2)
    sums = kv.float().contiguous(), ksum.float().contiguous()
    sizes = (groups, heads, tokens, dim, float(num))
    # Three products on tensor cores give half floats all they can hold, sooner than one without.
    precision = "ieee" if q.dtype == torch.float32 else "tf32x3"
    tile = {"phi": phi, "width": _width(dim), "tokens": TOKENS, "steps": STEPS, "eps": EPS}
    grid = (groups * _tiles(tokens, TOKENS * STEPS),)
    _launch(_attend, grid, q, *sums, out, *sizes, *q.stride(), **tile, precision=precision)
    return out


def _channels_last(x: Tensor, channels: int, height: int) -> Tensor:
    """Return an uninitialised (B, channels, height, W) whose memory is (B, height, W, channels)."""
    return x.new_empty(x.shape[0], height, x.shape[3], channels).permute(0, 3, 1, 2)


def _tiles(length: int, tile: int) -> int:
    return -(-length // tile)


def _width(dim: int) -> int:
    """Return the power of two that holds dim and that a matrix product takes: at least 16."""
    return max(16, 1 << (dim - 1).bit_length())


def _launch(kernel: Any, grid: tuple[int, ...], x: Tensor, /, *args: Any, **constants: Any) -> None:
    """Launch on the device of x, which is not always the current one."""
    with torch.cuda.device(x.get_device()):
        kernel[grid](x, *args, **constants, enable_fp_fusion=True)


@jit
def _map(x: tl.tensor, phi: tl.constexpr) -> tl.tensor:
    if phi == "elu":
        # exp of what is not selected must not overflow.
        return tl.where(x > 0, x + 1, tl.exp(tl.minimum(x, 0.0)))
    return tl.maximum(x, 0.0)


@jit
def _dot(
    a: tl.tensor, b: tl.tensor, sums: tl.tensor, precision: tl.constexpr, widen: tl.constexpr
) -> tl.tensor:
    # The interpreter multiplies the bits of bfloat16; as float32 the products are the same.
    if widen:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision=precision)


@jit
def _read(at: tl.tensor, mask: tl.tensor) -> tl.tensor:
    return tl.load(at, mask=mask, other=0.0).to(tl.float32)


@jit
def _taps(at: tl.tensor, step: tl.tensor, known: tl.tensor) -> tl.tensor:
    """Load the nine taps of a tile's channels, row by row of the kernel."""
    return (
        _read(at, known), _read(at + step, known), _read(at + 2 * step, known),
        _read(at + 3 * step, known), _read(at + 4 * step, known), _read(at + 5 * step, known),
        _read(at + 6 * step, known), _read(at + 7 * step, known), _read(at + 8 * step, known),
    )  # fmt: skip


@jit
def _slide(
    at: tl.tensor, step: tl.tensor, masks: tl.tensor, taps: tl.tensor, sums: tl.tensor
) -> tl.tensor:
    """Add one input row to the three output rows it reaches; the first of them is then whole.

    `sums` are the two output rows begun so far, `masks` those of the columns left, here, right.
    """
    left = _read(at - step, masks[0])
    here = _read(at, masks[1])
    right = _read(at + step, masks[2])
    whole = sums[0] + left * taps[6] + here * taps[7] + right * taps[8]
    first = sums[1] + left * taps[3] + here * taps[4] + right * taps[5]
    return whole, first, left * taps[0] + here * taps[1] + right * taps[2]


@jit
def _gated_depthwise(
    a: tl.tensor, b: tl.tensor, taps: tl.tensor, out: tl.tensor,
    channels: tl.tensor, height: tl.tensor, width: tl.tensor, halo: tl.tensor,
    x_batch: tl.tensor, x_channel: tl.tensor, x_row: tl.tensor, x_column: tl.tensor,
    rows: tl.constexpr, pixels: tl.constexpr, line: tl.constexpr, stages: tl.constexpr,
) -> None:  # fmt: skip
    top = tl.program_id(2) % tl.cdiv(height, rows) * rows
    batch = (tl.program_id(2) // tl.cdiv(height, rows)).to(tl.int64)
    c = (tl.program_id(0) * line + tl.arange(0, line)).to(tl.int64)[None, :]
    j = (tl.program_id(1) * pixels + tl.arange(0, pixels)).to(tl.int64)[:, None]
    known = c < channels
    taps_a = _taps(taps + c, 2 * channels, known)
    taps_b = _taps(taps + channels + c, 2 * channels, known)
    offset = batch * x_batch + c * x_channel + j * x_column
    out += j * channels + c
    zeros = tl.zeros((pixels, line), tl.float32)
    a_first, a_second, b_first, b_second = zeros, zeros, zeros, zeros
    for row in tl.range(top - 1, tl.minimum(top + rows, height) + 1, num_stages=stages):
        source = row + halo
        # A row beyond the image has no columns: it reads as zeros.
        bound = tl.where((source >= 0) & (source < height + 2 * halo), width, 0)
        here = known & (j < bound)
        masks = here & (j > 0), here, here & (j < bound - 1)
        at = offset + source.to(tl.int64) * x_row
        value, a_first, a_second = _slide(a + at, x_column, masks, taps_a, (a_first, a_second))
        gate, b_first, b_second = _slide(b + at, x_column, masks, taps_b, (b_first, b_second))
        if row > top:
            gelu = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
            to = out + (batch * height + row - 1) * width * channels
            tl.store(to, gelu * gate, mask=known & (j < width))


@jit
def _key_value_sums(
    k: tl.tensor, v: tl.tensor, kv: tl.tensor, ksum: tl.tensor,
    groups: tl.tensor, heads: tl.tensor, num: tl.tensor, dim: tl.tensor, span: tl.tensor,
    k_batch: tl.tensor, k_head: tl.tensor, k_token: tl.tensor, k_dim: tl.tensor,
    v_batch: tl.tensor, v_head: tl.tensor, v_token: tl.tensor, v_dim: tl.tensor,
    phi: tl.constexpr, width: tl.constexpr, tokens: tl.constexpr, widen: tl.constexpr,
) -> None:  # fmt: skip
    group = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    i = tl.arange(0, width)
    k += group // heads * k_batch + group % heads * k_head + i[:, None].to(tl.int64) * k_dim
    v += group // heads * v_batch + group % heads * v_head + i[None, :].to(tl.int64) * v_dim
    sums = tl.zeros((width, width), tl.float32)
    total = tl.zeros((width, tokens), tl.float32)
    for first in range(part * span, tl.minimum((part + 1) * span, num), tokens):
        j = (first + tl.arange(0, tokens)).to(tl.int64)
        inside = (i[:, None] < dim) & (j[None, :] < num)
        keys = _read(k + j[None, :] * k_token, inside)
        # phi(0) is not 0: what lies outside is taken out after it.
        keys = tl.where(inside, _map(keys, phi), 0.0).to(v.dtype.element_ty)
        total += keys.to(tl.float32)
        within = (j[:, None] < num) & (i[None, :] < dim)
        values = tl.load(v + j[:, None] * v_token, mask=within, other=0.0)
        sums = _dot(keys, values, sums, "ieee", widen)
    row = (part * groups + group) * dim
    square = (i[:, None] < dim) & (i[None, :] < dim)
    tl.store(kv + (row + i[:, None]) * dim + i[None, :], sums, mask=square)
    tl.store(ksum + row + i, tl.sum(total, axis=1), mask=i < dim)


@jit
def _attend(
    q: tl.tensor, kv: tl.tensor, ksum: tl.tensor, out: tl.tensor,
    groups: tl.tensor, heads: tl.tensor, num: tl.tensor, dim: tl.tensor, pixels: tl.tensor,
    q_batch: tl.tensor, q_head: tl.tensor, q_token: tl.tensor, q_dim: tl.tensor,
    phi: tl.constexpr, width: tl.constexpr, tokens: tl.constexpr, steps: tl.constexpr,
    eps: tl.constexpr, precision: tl.constexpr,
) -> None:  # fmt: skip
    # Heads first: programs that run together touch the same lines.
    group = (tl.program_id(0) % groups).to(tl.int64)
    first = tl.program_id(0) // groups * (steps * tokens)
    batch = group // heads
    head = group % heads
    i = tl.arange(0, width)
    square = (i[:, None] < dim) & (i[None, :] < dim)
    state = _read(kv + (group * dim + i[:, None]) * dim + i[None, :], square) / pixels
    mean = _read(ksum + group * dim + i, i < dim) / pixels
    q += batch * q_batch + head * q_head + i[None, :].to(tl.int64) * q_dim
    for start in range(first, tl.minimum(first + steps * tokens, num), tokens):
        j = (start + tl.arange(0, tokens)).to(tl.int64)
        inside = (j[:, None] < num) & (i[None, :] < dim)
        # Beyond dim, phi(0) meets the zeros of state and mean.
        queries = _map(_read(q + j[:, None] * q_token, inside), phi)
        above = tl.dot(queries, state, input_precision=precision)
        below = tl.sum(queries * mean[None, :], axis=1) + eps
        at = ((batch * num + j[:, None]) * heads + head) * dim + i[None, :]
        tl.store(out + at, above / below[:, None], mask=inside)
