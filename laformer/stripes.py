"""Exact inference on images of any size in bounded memory: summarise, reduce, transform.

A block needs the whole image only in small sums (laformer/attention.py); all else reaches a few
rows. So the network runs layer by layer over stripes of rows, and each attention is one walk over
its feature map, in place:

    read ── attention, given its sums ── feed-forward ── write ── sums for the next attention

Every stage keeps the few rows that its next stripe needs from above, so stages advance together
and a row is overwritten only after all that need it have read it. Zeros surround the image, not
its stripes. The result differs from that of the whole image by rounding alone, also when several
processes have a band of the image each (laformer/bands.py).
"""

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from laformer.attention import Sums, add_into, convolve, inner
from laformer.bands import Alone, Group
from laformer.config import NUM_LEVELS
from laformer.geometry import padding
from laformer.maps import (
    Band,
    Bordered,
    FeatureMap,
    Home,
    Pixels,
    RowsInFile,
    RowsInMemory,
    joined,
)
from laformer.memory import Maps, Plan, Size, plan_stripes
from laformer.model import Block, LAformer, Step
from laformer.streams import Stream, numbered, within

Report = Callable[[float], None]
"""Hears fractions from 0 to 1."""


def restore_in_stripes(
    model: LAformer,
    lq: Tensor,
    *,
    memory_bytes: int | None = None,
    stripe_rows: int | None = None,
    progress: Report = lambda _: None,
    scratch: Path | None = None,
) -> Tensor:
    """Return what model(lq) returns, but for rounding and without gradients.

    lq (B, C, H, W) may be on another device than the model: only stripes travel. `memory_bytes`
    bounds what this call allocates beside the model, its result included; without it memory is
    not scarce. Feature maps that do not fit beside the model live in the memory of the computer
    or, where that is the same or too small, in nameless files in `scratch` (default: the
    temporary directory of the system), which vanish with the call or the process. Raises
    ModelError when the budget is too small for any stripe.
    """
    options = Options(memory_bytes, stripe_rows, progress, scratch)
    return _restore(model, lq, Alone(), options)


def restore_within(model: LAformer, lq: Tensor, memory_bytes: int) -> Tensor:
    """Restore lq (B, C, H, W) at once where it fits, else in stripes: the result is equal."""
    size = Size(
        config=model.config,
        height=lq.shape[2],
        width=lq.shape[3],
        dtype=model.embed.weight.dtype,
        image_dtype=lq.dtype,
    )
    if size.whole_bytes(next(model.parameters()).device) <= memory_bytes:
        whole: Tensor = model(lq)
        return whole
    return restore_in_stripes(model, lq, memory_bytes=memory_bytes)


def restore_band(
    model: LAformer,
    lq: Tensor,
    group: dist.ProcessGroup,
    *,
    memory_bytes: int | None = None,
    stripe_rows: int | None = None,
    progress: Report = lambda _: None,
    scratch: Path | None = None,
) -> tuple[int, Tensor]:
    """Restore one image by all processes of a group: return this one's first row and its rows.

    Every process gives the same lq (B, C, H, W), which may be mapped from a file: only the rows
    of its band are read. The bands (B, out_channels, n, W * scale) of ranks 0, 1, … are the
    restored image from top to bottom; a low image leaves the last ranks without rows. The other
    options are those of `restore_in_stripes`, for this process; `memory_bytes` leaves out the few
    rows that neighbours lend. Under NCCL every process has chosen its GPU with
    torch.cuda.set_device before. A budget too small in one process raises ModelError in all; when
    one fails later, the others wait until the group's timeout.
    """
    options = Options(memory_bytes, stripe_rows, progress, scratch)
    height = lq.shape[2] + padding(*lq.shape[2:])[0]
    ranks = Group(group, model, height)
    start = min(ranks.band(height).start, lq.shape[2])
    return start * model.config.scale, _restore(model, lq, ranks, options)


@dataclass(frozen=True)
class Options:
    """What the caller of stripes may choose."""

    memory_bytes: int | None
    stripe_rows: int | None
    progress: Report
    scratch: Path | None


def _restore(model: LAformer, lq: Tensor, ranks: Alone | Group, options: Options) -> Tensor:
    """Return the rows of this process of the restored image."""
    batch, _, height, width = lq.shape
    scale, device = model.config.scale, next(model.parameters()).device
    start, stop = ranks.band(Pixels(lq[:1], device).height)
    rows = min(stop, height) - min(start, height)
    restored = lq.new_empty(batch, model.config.out_channels, rows * scale, width * scale)
    plan = ranks.agreed(lambda: planned(model, lq, rows, options))
    if plan is None:
        options.progress(1.0)
        return restored
    meter = Meter(options.progress, batch * num_walks(model))
    for image, result in zip(lq.chunk(batch), restored.chunk(batch), strict=True):
        with torch.no_grad(), ExitStack() as files:
            home = home_of(plan.maps, options.scratch, files)
            walker = Walker(model, plan.stripe_rows, home, meter, ranks)
            walker.restore(Pixels(image, device), result)
    options.progress(1.0)
    return restored


def planned(model: LAformer, lq: Tensor, rows: int, options: Options) -> Plan | None:
    """Return how to restore `rows` rows of lq; None when there are none."""
    size = Size(
        config=model.config,
        height=max(1, rows),
        width=lq.shape[3],
        dtype=model.embed.weight.dtype,
        image_dtype=lq.dtype,
    )
    device, results = model.embed.weight.device, lq.shape[0]
    memory_bytes = options.memory_bytes if rows else None
    plan = plan_stripes(size, device, memory_bytes, options.stripe_rows, results)
    return plan if rows else None


def home_of(maps: Maps, scratch: Path | None, files: ExitStack) -> Home:
    """Return what makes room for a map; files are closed with the stack."""

    def home(like: Tensor, num: int) -> RowsInMemory | RowsInFile:
        if maps == "files":
            return RowsInFile(like, files.enter_context(tempfile.TemporaryFile(dir=scratch)))
        device = torch.device("cpu") if maps == "host" else like.device
        return RowsInMemory(like, num, device)

    return home


def transformed(step: Step, stream: Stream, sums: Sequence[Sums | None]) -> Stream:
    """Apply a residual step, given the sums of its branches over the whole map."""

    def with_norm(x: Tensor) -> tuple[Tensor, Tensor]:
        return x, step.norm(x)

    def transform(windows: tuple[Tensor, ...]) -> Tensor:
        x, normalised = inner(windows[0], step.halo), windows[1]
        for branch, known in zip(step.branches, sums, strict=True):
            part = inner(normalised, step.halo - branch.halo)
            x = add_into(branch.transform(part, known), x)
        return x

    return stream.narrowed(step.halo, map(transform, stream.haloed(step.halo, with_norm)))


def summarised(step: Step, stream: Stream, band: Band) -> Sequence[Sums | None]:
    """Add up the sums that the branches of a step need of the rows of a band."""

    def norm(x: Tensor) -> tuple[Tensor]:
        return (step.norm(x),)

    def summarise(windows: tuple[Tensor, ...]) -> list[Sums | None]:
        (part,) = windows
        return [branch.summarise(inner(part, step.halo - branch.halo)) for branch in step.branches]

    def add(totals: list[Sums | None], sums: list[Sums | None]) -> list[Sums | None]:
        return [a and b and a.add(b) for a, b in zip(totals, sums, strict=True)]

    windows = stream.haloed(step.halo, norm)
    start = stream.narrowed(step.halo, stream.stripes).rows.start
    return reduce(add, map(summarise, within(band, windows, start, step.halo)))


def convolved(conv: nn.Module, stream: Stream) -> Stream:
    """Convolve a map 3x3; rows leave in pairs, as PixelUnshuffle takes them.

    A stream that does not begin at the top of the image begins at an odd row.
    """
    weight = cast(nn.Conv2d, conv).weight
    windows = stream.haloed(1, lambda rows: (rows.to(weight.dtype),), multiple=2)
    return stream.narrowed(1, (convolve(window, weight, halo=1) for (window,) in windows))


@dataclass(frozen=True)
class Walker:
    """Walks through a network over one image."""

    model: LAformer
    stripe_rows: int
    home: Home
    meter: "Meter"
    ranks: Alone | Group

    def restore(self, pixels: Pixels, result: Tensor) -> None:
        """Fill result (1, out_channels, n, W * scale); compare LAformer.forward."""
        model = self.model
        top, bottom = self.ranks.band(pixels.height)
        levels = [
            FeatureMap(Band(top >> level, bottom >> level), pixels.height >> level, self.home)
            for level in range(NUM_LEVELS)
        ]
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
        lq = self._pixels(pixels, levels[0].band, reach(model.encoder1) + 1)
        self._run(model.encoder1, convolved(model.embed, lq), levels[0])
        for level, (down, blocks) in enumerate(encoder, start=1):
            above = self._read(levels[level - 1], 2 * reach(blocks) + 1)
            self._run(blocks, halved(down, above), levels[level])
        for up, merge, blocks in decoder:
            context = reach(blocks) + reach(blocks) % 2
            below = self._read(levels.pop(), context // 2 + 1, shrink=2)
            skip = levels.pop()
            merged = self._merged(doubled(up, below), self.ranks.border(skip, context), merge)
            levels.append(skip if merge else skip.widened())
            self._run(blocks, merged, levels[-1])
        self._finish(levels.pop(), pixels, result)

    def _run(self, blocks: Iterable[nn.Module], stream: Stream, target: FeatureMap) -> None:
        """Write a stream to a map and run blocks over it."""
        walks = walks_of(blocks)
        sums = self._summarised(walks[0][0], self._written(stream, target), target)
        for walk, following in zip(walks, [*walks[1:], None], strict=True):
            steps = [*walk, following[0]] if following else walk
            stream = self._read(target, sum(step.halo for step in steps))
            for step in walk:
                stream = transformed(step, stream, sums)
                sums = [None]  # the feed-forward step has none
            stream = self._written(stream, target)
            if following:
                sums = self._summarised(following[0], stream, target)
            else:
                deque(stream.stripes, maxlen=0)

    def _summarised(self, step: Step, stream: Stream, target: FeatureMap) -> Sequence[Sums | None]:
        sums = summarised(step, stream, target.band)
        return self.ranks.total(sums, target.height * target.width)

    def _pixels(self, pixels: Pixels, band: Band, context: int) -> Stream:
        """Read a band of lq and `context` rows around it, as far as there are any."""
        rows = Band(max(0, band.start - context), min(pixels.height, band.stop + context))
        return self._stream(pixels, rows, pixels.height)

    def _read(self, source: FeatureMap, context: int, *, shrink: int = 1) -> Stream:
        """Read a map and `context` rows around it, as far as there are any."""
        bordered = self.ranks.border(source, context)
        return self._stream(bordered, bordered.band, source.height, shrink)

    def _stream(
        self, source: Pixels | Bordered, rows: Band, height: int, shrink: int = 1
    ) -> Stream:
        num = max(1, self.stripe_rows // shrink)
        starts = range(rows.start, rows.stop, num)
        stripes = (source.read(start, min(start + num, rows.stop)) for start in starts)
        return Stream(stripes, rows, height)

    def _written(self, stream: Stream, target: FeatureMap) -> Stream:
        """Write stripes into a map as they pass."""

        def written() -> Iterator[Tensor]:
            weight = max(1, len(target.groups)) ** 2 / (stream.rows.stop - stream.rows.start)
            for start, rows in numbered(stream):
                target.write(start, rows)
                self.meter.advance(weight * rows.shape[2])
                yield rows
                del rows

        return replace(stream, stripes=written())

    def _merged(self, stream: Stream, skip: Bordered, merge: nn.Module | None) -> Stream:
        """Append the skip's channels to those from below."""

        def merged() -> Iterator[Tensor]:
            for start, rows in numbered(stream):
                both = joined([rows, skip.read(start, start + rows.shape[2])], dim=1)
                yield merge(both) if merge else both

        return replace(stream, stripes=merged())

    def _finish(self, source: FeatureMap, pixels: Pixels, result: Tensor) -> None:
        """Answer and crop the padding."""
        model, top, start = self.model, source.band.start, source.band.start
        for (window,) in self._read(source, 1).haloed(1, lambda rows: (rows,)):
            stop = start + window.shape[2] - 2
            image = pixels.read(start, stop, halo=model.image_reach)
            answer = model.answer(window, image, part=True)
            rows = result[:, :, (start - top) * model.config.scale :][:, :, : answer.shape[2]]
            rows.copy_(answer[:, :, : rows.shape[2], : rows.shape[3]])
            start = stop


def halved(down: nn.Sequential, stream: Stream) -> Stream:
    """Apply `laformer.model.down`."""
    wide = convolved(down[0], stream)
    rows = Band(wide.rows.start // 2, wide.rows.stop // 2)
    return Stream(map(down[1], wide.stripes), rows, wide.height // 2)


def doubled(up: nn.Sequential, stream: Stream) -> Stream:
    """Apply `laformer.model.up`."""
    deep = convolved(up[0], stream)
    rows = Band(deep.rows.start * 2, deep.rows.stop * 2)
    return Stream(map(up[1], deep.stripes), rows, deep.height * 2)


def reach(blocks: Iterable[nn.Module]) -> int:
    """Return the rows that the sums of the first block need around a band."""
    return walks_of(blocks)[0][0].halo


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
