"""How much memory restoring an image takes, and how a budget is spent."""

import os
from bisect import bisect_right
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from laformer.attention import hidden_channels
from laformer.config import ModelConfig
from laformer.errors import ModelError
from laformer.geometry import padding

MIN_ROWS = 4
"""A lower stripe would be halo more than itself."""
HEAP, HEAP_BYTES = 3.5, 192 * 2**20
"""What glibc keeps of freed temporaries, measured: a multiple of those in use, up to a bound."""
STRIPE_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Temporaries of a stripe when memory is not scarce: what caches like, what fills a GPU."""

Maps = Literal["device", "host", "files"]
"""Where feature maps live: beside the model, in the memory of the computer, on disk."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What an image takes that is restored by a network of this kind."""

    config: ModelConfig
    height: int
    """Rows of lq, or of the band of it that one process restores."""
    width: int
    dtype: torch.dtype
    """Of the weights, and so of the feature maps."""
    image_dtype: torch.dtype = torch.float32
    """Of lq, and so of the restored image."""

    def whole_bytes(self, device: torch.device | None = None) -> int:
        """Return about how much the whole image takes at once, beside lq and the weights.

        Counts the tensors that live together where most do: in the blocks of the decoder at full
        resolution, or in the answer of a network that enlarges much; and what the allocator of
        a device keeps besides, when one is given.
        """
        rows, columns = self._padded()
        skips = (3.2 * 2 * self.config.dim + self.config.in_channels) * self.dtype.itemsize
        blocks = rows * (self.row_bytes() + skips * columns)
        answer = rows * (self.answer_row_bytes() + skips * columns / 2)
        heap = heap_bytes(rows * self.row_bytes(), device) if device else 0
        return int(self.result_bytes() + max(blocks, answer) + heap)

    def stripe_bytes(self, stripe_rows: int, device: torch.device | None = None) -> int:
        """Return about how much stripes take, without their feature maps."""
        halo = max(1, self.config.kernel // 2)
        row = max(self.row_bytes(), self.answer_row_bytes())
        heap = heap_bytes(stripe_rows * row, device) if device else 0
        return int(self.result_bytes() + row * (stripe_rows + 2 * halo) + heap)

    def map_bytes(self) -> int:
        """Return about how much the feature maps take that stripes are cut from."""
        rows, columns = self._padded()
        return int(1.25 * 2 * self.config.dim * rows * columns * self.dtype.itemsize)

    def row_bytes(self) -> float:
        """Return the temporaries of the widest block per row of its map."""
        dim = 2 * self.config.dim
        # Tokens are float32 or wider also when the rest is half as wide.
        attention = (5 + 4 * max(1, 4 / self.dtype.itemsize)) * dim
        fit = 2 * dim + 4 * hidden_channels(dim, self.config.expansion)
        return max(attention, fit) * self._padded()[1] * self.dtype.itemsize

    def answer_row_bytes(self) -> float:
        """Return the temporaries of the answer per row of lq: float32, before and after shuffling.

        The residual and the enlarged image, both also before their pixels are shuffled.
        """
        values = 4 * self.config.out_channels * self.config.scale**2 + 2 * self.config.dim
        return values * self._padded()[1] * max(4, self.dtype.itemsize)

    def result_bytes(self) -> int:
        """Return the size of the restored image."""
        pixels = self.height * self.width * self.config.scale**2
        return self.config.out_channels * pixels * self.image_dtype.itemsize

    def _padded(self) -> tuple[int, int]:
        bottom, right, _ = padding(self.height, self.width)
        return self.height + bottom, self.width + right


@dataclass(frozen=True)
class Plan:
    """How a budget is spent."""

    stripe_rows: int
    """Rows of a feature map, at any level, that are worked on at once."""
    maps: Maps


def plan_stripes(
    size: Size,
    device: torch.device,
    memory_bytes: int | None,
    stripe_rows: int | None,
    results: int = 1,
) -> Plan:
    """Return the highest useful stripes that the budget permits, with maps near if it can.

    `results` images are restored one after the other and kept. Raises ModelError when the budget
    is too small for any stripe.
    """
    if stripe_rows is not None and stripe_rows < 1:
        raise ModelError(f"stripe_rows {stripe_rows} is less than 1; use at least {MIN_ROWS}")
    room = STRIPE_BYTES.get(device.type, STRIPE_BYTES["cuda"])
    useful = int(room / size.row_bytes())
    wanted = min(size.height, stripe_rows or max(4 * MIN_ROWS, useful))
    if memory_bytes is None:
        return Plan(wanted, "device")

    def predict(rows: int, *, with_maps: bool) -> int:
        maps = size.map_bytes() if with_maps else 0
        return size.stripe_bytes(rows, device) + maps + (results - 1) * size.result_bytes()

    heights = range(wanted if stripe_rows else min(MIN_ROWS, wanted), wanted + 1)
    for with_maps in (True, False):
        num = bisect_right(heights, memory_bytes, key=partial(predict, with_maps=with_maps))
        if num and with_maps:
            return Plan(heights[num - 1], "device")
        if num:
            on_host = device.type != "cpu" and size.map_bytes() < free_bytes() // 2
            return Plan(heights[num - 1], "host" if on_host else "files")
    least = predict(heights[0], with_maps=False)
    raise ModelError(
        f"memory_bytes {memory_bytes} is less than the {least} that stripes of {heights[0]} rows "
        f"of a {size.height} x {size.width} image take with feature maps in files; use "
        f"memory_bytes={least}"
    )


def heap_bytes(temporaries: float, device: torch.device) -> float:
    """Return what an allocator keeps of temporaries that were freed."""
    return min(HEAP * temporaries, HEAP_BYTES) if device.type == "cpu" else 0


def free_bytes(device: torch.device | None = None) -> int:
    """Return how much memory a device, or the computer, can still give away."""
    if device is not None and device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    available = next(x for x in meminfo.read_text().splitlines() if x.startswith("MemAvailable"))
    return min([int(available.split()[1]) * 1024, *container_bytes()])


def container_bytes(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what the container of this process can still give away; nothing without a bound.

    Files that were read count as used there, but are dropped when memory is wanted. Source: the
    documents of Linux on control groups, version 2, then 1.
    """
    for limit, used, dropped, folder in (
        ("memory.max", "memory.current", "inactive_file", root),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", root / "memory"),
    ):
        try:
            bound, taken = ((folder / name).read_text().strip() for name in (limit, used))
            stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if bound != "max":
            return [max(0, int(bound) - int(taken) + int(stat.get(dropped, 0)))]
    return []
