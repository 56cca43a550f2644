"""Exact inference on images of any size in bounded memory: summarise, reduce, transform.

A block needs the whole image only in small sums (laformer/attention.py); all else reaches a few
rows. So the network runs layer by layer over stripes of rows, and each attention is one walk over
its feature map, in place:

    read ── attention, given its sums ── feed-forward ── write ── sums for the next attention

Every stage keeps the few rows that its next stripe needs from above, so stages advance together
and a row is overwritten only after all that need it have read it. Zeros surround the image, not
its stripes. The result differs from that of the whole image by rounding alone.
"""

import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, reduce
from io import BufferedRandom
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from laformer.attention import Sums, convolve, inner
from laformer.config import ModelConfig
from laformer.errors import ModelError
from laformer.model import MULTIPLE, Block, LAformer, Step, padding

Stripes = Iterator[Tensor]
"""Successive rows (1, C, n, W) of one map, from the top; n may vary."""

MIN_ROWS = 4
"""A lower stripe would be halo more than itself."""
HEAP, HEAP_BYTES = 3.5, 192 * 2**20
"""What glibc keeps of freed temporaries, measured: a multiple of those in use, up to a bound."""
STRIPE_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Temporaries of a stripe when memory is not scarce: what caches like, what fills a GPU."""


def restore_in_stripes(
    model: LAformer,
    lq: Tensor,
    *,
    memory_bytes: int | None = None,
    stripe_rows: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
    scratch: Path | None = None,
) -> Tensor:
    """Return what model(lq) returns, but for rounding and without gradients.

    lq (B, C, H, W) may be on another device than the model: only stripes travel. `memory_bytes`
    bounds what this call allocates, its result included; without it memory is not scarce.
    Feature maps that do not fit live in nameless files in `scratch` (default: the temporary
    directory of the system), which vanish with the call or the process. `progress` hears
    fractions from 0 to 1. Raises ModelError when the budget is too small for any stripe.
    """
    batch, _, height, width = lq.shape
    device = next(model.parameters()).device
    plan = plan_stripes(model.config, lq, device, memory_bytes, stripe_rows)
    restored = lq.new_empty(batch, model.config.out_channels, height, width)
    meter = Meter(progress, batch * num_walks(model))
    for image, result in zip(lq.chunk(batch), restored.chunk(batch), strict=True):
        with torch.no_grad(), ExitStack() as files:

            def in_file(like: Tensor, _: int, files: ExitStack = files) -> RowsInFile:
                file = files.enter_context(tempfile.TemporaryFile(dir=scratch))
                return RowsInFile(like, file)

            home = in_file if plan.in_files else RowsInMemory
            Walker(model, plan.stripe_rows, home, meter).restore(Pixels(image, device), result)
    progress(1.0)
    return restored


def predict_bytes(
    config: ModelConfig,
    height: int,
    width: int,
    dtype: torch.dtype,
    stripe_rows: int | None = None,
    *,
    in_files: bool = False,
) -> int:
    """Return about how much memory one image takes beside lq and the weights, at the peak.

    For the whole image at once, or in stripes of `stripe_rows` with the feature maps in memory
    or `in_files`. Counts the tensors that live together in the widest blocks, those of the
    decoder at full resolution; on the CPU the allocator may keep up to HEAP_BYTES besides.
    """
    dim = 2 * config.dim
    rows, columns = height + -height % MULTIPLE, width + -width % MULTIPLE
    row = row_bytes(config, columns, dtype)
    held: float = config.out_channels * height * width * dtype.itemsize
    if stripe_rows is None:
        temporaries = row * rows
        held += (3.2 * dim + config.in_channels) * rows * columns * dtype.itemsize
    else:
        temporaries = row * (stripe_rows + 2 * max(1, config.kernel // 2))
        held += 0 if in_files else 1.25 * dim * rows * columns * dtype.itemsize
    return int(held + temporaries)


def row_bytes(config: ModelConfig, width: int, dtype: torch.dtype) -> float:
    """Return the temporaries of the widest block per row of a map of this width."""
    # Tokens are float32 or wider also when the rest is half as wide.
    attention = 5 + 4 * max(1, 4 / dtype.itemsize)
    fit = 2 + 4 * config.expansion
    return 2 * config.dim * max(attention, fit) * width * dtype.itemsize


@dataclass(frozen=True)
class Plan:
    """How a budget is spent."""

    stripe_rows: int
    """Rows of a feature map, at any level, that are worked on at once."""
    in_files: bool
    """Whether feature maps live in files instead of in the memory of the device."""


def plan_stripes(
    config: ModelConfig,
    lq: Tensor,
    device: torch.device,
    memory_bytes: int | None,
    stripe_rows: int | None,
) -> Plan:
    """Return the highest useful stripes that the budget permits, with maps in memory if it can."""
    if stripe_rows is not None and stripe_rows < 1:
        raise ModelError(f"stripe_rows {stripe_rows} is less than 1; use at least {MIN_ROWS}")
    batch, _, height, width = lq.shape
    results = (batch - 1) * config.out_channels * height * width * lq.dtype.itemsize
    row = row_bytes(config, width, lq.dtype)

    def predict(rows: int, *, in_files: bool) -> int:
        tensors = predict_bytes(config, height, width, lq.dtype, rows, in_files=in_files)
        heap = min(HEAP * row * rows, HEAP_BYTES) if device.type == "cpu" else 0
        return int(tensors + heap) + results

    room = STRIPE_BYTES.get(device.type, STRIPE_BYTES["cuda"])
    useful = int(room / row)
    wanted = stripe_rows or min(height, max(4 * MIN_ROWS, useful))
    if memory_bytes is None:
        return Plan(wanted, in_files=False)
    heights = range(stripe_rows or min(MIN_ROWS, wanted), wanted + 1)
    for in_files in (False, True):
        num = bisect_right(heights, memory_bytes, key=partial(predict, in_files=in_files))
        if num:
            return Plan(heights[num - 1], in_files)
    least = predict(heights[0], in_files=True)
    raise ModelError(
        f"memory_bytes {memory_bytes} is less than the {least} that stripes of {heights[0]} rows "
        f"of a {height} x {width} image take with feature maps in files; use "
        f"memory_bytes={least}"
    )


class Windows(Iterator[tuple[Tensor, ...]]):
    """Stripes of maps that advance together, each widened by `halo` rows of its neighbours.

    Zeros stand for the rows outside the image. Rows leave as soon as the rows below them have
    come, in multiples of `multiple`. An iterator class, because a generator would keep alive
    what it yields.
    """

    def __init__(
        self, stripes: Iterable[tuple[Tensor, ...]], halo: int, height: int, multiple: int = 1
    ) -> None:
        self.stripes = iter(stripes)
        self.halo = halo
        self.multiple = multiple
        self.missing = height
        self.held: tuple[Tensor, ...] = ()

    def __next__(self) -> tuple[Tensor, ...]:
        """Return the next windows, with `halo` rows above and below their own."""
        while True:
            windows = self._join(next(self.stripes))
            ready = windows[0].shape[2] - 2 * self.halo
            if self.missing:
                ready -= ready % self.multiple
            if ready > 0:
                self.held = tuple(window[:, :, ready:].clone() for window in windows)
                return tuple(window[:, :, : ready + 2 * self.halo] for window in windows)
            self.held = windows

    def _join(self, stripes: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self.missing -= stripes[0].shape[2]
        top = 0 if self.held else self.halo
        bottom = 0 if self.missing else self.halo
        if top or bottom:
            stripes = tuple(F.pad(stripe, (0, 0, top, bottom)) for stripe in stripes)
        if self.held:
            pairs = zip(self.held, stripes, strict=True)
            stripes = tuple(torch.cat(pair, dim=2) for pair in pairs)
        return stripes


def transformed(step: Step, stripes: Stripes, height: int, sums: Sequence[Sums | None]) -> Stripes:
    """Apply a residual step, given the sums of its branches over the whole map."""
    halo = max(branch.halo for branch in step.branches)

    def with_norm(x: Tensor) -> tuple[Tensor, Tensor]:
        return x, step.norm(x)

    def transform(windows: tuple[Tensor, ...]) -> Tensor:
        x, normalised = inner(windows[0], halo), windows[1]
        for branch, known in zip(step.branches, sums, strict=True):
            x = x + branch.transform(inner(normalised, halo - branch.halo), known)
        return x

    return map(transform, Windows(map(with_norm, stripes), halo, height))


def summarised(step: Step, stripes: Stripes, height: int) -> Sequence[Sums | None]:
    """Add up the sums that the branches of a step need of the whole map."""
    halo = max(branch.halo for branch in step.branches)

    def norm(x: Tensor) -> tuple[Tensor]:
        return (step.norm(x),)

    def summarise(windows: tuple[Tensor, ...]) -> list[Sums | None]:
        (part,) = windows
        return [branch.summarise(inner(part, halo - branch.halo)) for branch in step.branches]

    def add(totals: list[Sums | None], sums: list[Sums | None]) -> list[Sums | None]:
        return [a and b and a.add(b) for a, b in zip(totals, sums, strict=True)]

    return reduce(add, map(summarise, Windows(map(norm, stripes), halo, height)))


def convolved(conv: nn.Module, stripes: Stripes, height: int) -> Stripes:
    """Convolve a map 3x3; rows leave in pairs, as PixelUnshuffle takes them."""
    windows = Windows(((rows,) for rows in stripes), 1, height, multiple=2)
    return (convolve(cast(nn.Conv2d, conv), window, halo=1) for (window,) in windows)


def located(stripes: Stripes) -> Iterator[tuple[int, Tensor]]:
    """Number stripes by their first row; none is kept alive while the next is made."""
    start = 0
    for rows in stripes:
        yield start, rows
        start += rows.shape[2]
        del rows


@dataclass(frozen=True)
class Walker:
    """Walks through a network over one image."""

    model: LAformer
    stripe_rows: int
    home: "Home"
    meter: "Meter"

    def restore(self, pixels: "Pixels", result: Tensor) -> None:
        """Fill result (1, out_channels, H, W); compare LAformer.forward."""
        model, height = self.model, pixels.height
        encoder = (
            (model.down1, model.encoder2),
            (model.down2, model.encoder3),
            (model.down3, model.latent),
        )
        decoder = (
            (model.up3, model.reduce3, model.decoder3),
            (model.up2, model.reduce2, model.decoder2),
            (model.up1, None, nn.Sequential(*model.decoder1, *model.refinement)),
        )
        stripes = convolved(model.embed, self._read(pixels), height)
        maps = [self._run(model.encoder1, stripes, FeatureMap(height, self.home))]
        for down, blocks in encoder:
            stripes = map(down[1], convolved(down[0], self._read(maps[-1]), height))
            height //= 2
            maps.append(self._run(blocks, stripes, FeatureMap(height, self.home)))
        for up, merge, blocks in decoder:
            stripes = map(up[1], convolved(up[0], self._read(maps.pop(), shrink=2), height))
            height *= 2
            skip = maps.pop()
            stripes = self._merged(stripes, skip, merge)
            maps.append(self._run(blocks, stripes, skip if merge else skip.widened()))
        self._finish(maps.pop(), pixels, result)

    def _run(
        self, blocks: Iterable[nn.Module], stripes: Stripes, target: "FeatureMap"
    ) -> "FeatureMap":
        """Write stripes to a map, run blocks over it, and return it."""
        walks = walks_of(blocks)
        sums = summarised(walks[0][0], self._written(stripes, target), target.height)
        for walk, following in zip(walks, [*walks[1:], None], strict=True):
            stripes = self._read(target)
            for step in walk:
                stripes = transformed(step, stripes, target.height, sums)
                sums = [None]  # the feed-forward step has none
            stripes = self._written(stripes, target)
            if following:
                sums = summarised(following[0], stripes, target.height)
            else:
                deque(stripes, maxlen=0)
        return target

    def _read(self, source: "Pixels | FeatureMap", *, shrink: int = 1) -> Stripes:
        num, height = max(1, self.stripe_rows // shrink), source.height
        return (source.read(start, min(start + num, height)) for start in range(0, height, num))

    def _written(self, stripes: Stripes, target: "FeatureMap") -> Stripes:
        """Write stripes into a map as they pass."""
        weight = max(1, len(target.groups)) ** 2
        for start, rows in located(stripes):
            target.write(start, rows)
            self.meter.advance(weight * rows.shape[2] / target.height)
            yield rows
            del rows

    def _merged(self, stripes: Stripes, skip: "FeatureMap", merge: nn.Module | None) -> Stripes:
        """Append the skip's channels to those from below."""
        for start, rows in located(stripes):
            joined = torch.cat([rows, skip.read(start, start + rows.shape[2])], dim=1)
            yield merge(joined) if merge else joined

    def _finish(self, source: "FeatureMap", pixels: "Pixels", result: Tensor) -> None:
        """Apply the head, add the image and crop the padding."""
        channels, height, width = result.shape[1:]
        windows = Windows(((rows,) for rows in self._read(source)), 1, source.height)
        residuals = (self.model.residual(window, halo=1) for (window,) in windows)
        for start, residual in located(residuals):
            image = pixels.read(start, start + residual.shape[2])[:, :channels]
            restored = residual + image.to(residual.dtype)
            result[:, :, start : start + residual.shape[2]] = restored[
                :, :, : max(0, height - start), :width
            ]


def walks_of(blocks: Iterable[nn.Module]) -> list[list[Step]]:
    """Group the steps of blocks: each walk begins with the one step that needs sums."""
    walks: list[list[Step]] = []
    for block in blocks:
        *attention, fit = cast(Block, block).steps()
        walks += [[step] for step in attention]
        walks[-1].append(fit)
    return walks


def num_walks(model: LAformer) -> int:
    """Count the walks over the maps of the encoder and as much work elsewhere.

    Half the side has twice the channels, hence as much work; the decoder at full resolution
    has twice the channels, hence four times.
    """
    once = (model.encoder1, model.encoder2, model.encoder3, model.latent)
    again = (model.decoder3, model.decoder2)
    wide = 1 + len(walks_of([*model.decoder1, *model.refinement]))
    return sum(1 + len(walks_of(blocks)) for blocks in (*once, *again)) + 4 * wide


class Meter:
    """Turns walks into fractions of all walks."""

    def __init__(self, report: Callable[[float], None], num_walks: int) -> None:
        self.report, self.num_walks, self.done = report, num_walks, 0.0
        report(0.0)

    def advance(self, walks: float) -> None:
        """Report more work."""
        self.done += walks
        self.report(min(self.done / self.num_walks, 1.0))


class RowsInMemory:
    """The rows of some channels in the memory of the device of the model."""

    def __init__(self, like: Tensor, height: int) -> None:
        _, channels, _, width = like.shape
        self.data = like.new_empty(height, width, channels).permute(2, 0, 1)[None]

    def read(self, start: int, stop: int) -> Tensor:
        """Return a view of rows start to stop."""
        return self.data[:, :, start:stop]

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on."""
        self.data[:, :, start : start + rows.shape[2]] = rows


class RowsInFile:
    """The same in a file: read and written, not mapped, so that a full disk raises OSError."""

    def __init__(self, like: Tensor, file: BufferedRandom) -> None:
        _, self.channels, _, self.width = like.shape
        self.dtype, self.device, self.file = like.dtype, like.device, file

    def read(self, start: int, stop: int) -> Tensor:
        """Return a copy of rows start to stop."""
        rows = torch.empty(stop - start, self.width, self.channels, dtype=self.dtype)
        self._seek(start)
        self.file.readinto(rows.view(torch.uint8).numpy().data)
        return rows.permute(2, 0, 1)[None].to(self.device)

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on."""
        data = rows[0].permute(1, 2, 0).cpu().contiguous()
        self._seek(start)
        self.file.write(data.view(torch.uint8).numpy().data)

    def _seek(self, row: int) -> None:
        self.file.seek(row * self.width * self.channels * self.dtype.itemsize)


Home = Callable[[Tensor, int], RowsInMemory | RowsInFile]
"""Makes room for a map, given its first rows and its height."""


class FeatureMap:
    """A feature map: its height is given, the rest comes with its first rows.

    Its channels may live apart in equal groups: at full resolution the decoder's map is as many
    new channels before those of the skip.
    """

    def __init__(self, height: int, home: Home) -> None:
        self.height, self.home = height, home
        self.groups: list[RowsInMemory | RowsInFile] = []

    def widened(self) -> "FeatureMap":
        """Return a map with as many new channels before the ones of this map."""
        wide = FeatureMap(self.height, self.home)
        wide.groups = [self.home(self.read(0, 1), self.height), *self.groups]
        return wide

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop (1, C, n, W), maybe a view."""
        groups = [group.read(start, stop) for group in self.groups]
        return groups[0] if len(groups) == 1 else torch.cat(groups, dim=1)

    def write(self, start: int, rows: Tensor) -> None:
        """Replace the rows from start on."""
        self.groups = self.groups or [self.home(rows, self.height)]
        for group, part in zip(self.groups, rows.chunk(len(self.groups), dim=1), strict=True):
            group.write(start, part)


class Pixels:
    """The rows of lq (1, C, H, W), padded as the network pads them."""

    def __init__(self, lq: Tensor, device: torch.device) -> None:
        height, width = lq.shape[2:]
        bottom, self.right, self.mode = padding(height, width, MULTIPLE)
        mirrored = self.mode == "reflect"
        below = [height - 2 - i if mirrored else height - 1 for i in range(bottom)]
        self.order = torch.tensor([*range(height), *below], device=lq.device)
        self.height = len(self.order)
        self.lq, self.device = lq, device

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows start to stop (1, C, n, W) on the device of the model."""
        rows = self.lq.index_select(2, self.order[start:stop])
        rows = F.pad(rows, (0, self.right, 0, 0), mode=self.mode) if self.right else rows
        return rows.to(self.device, memory_format=torch.channels_last)
