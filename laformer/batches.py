"""Rows to batches: the one place where integers become floats."""

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laformer.errors import StreamError, TrainingError

Array = np.ndarray[Any, Any]
Rows = dict[str, Array]


@dataclass(frozen=True)
class Batch:
    """What one training step of one worker consumes."""

    sample_ids: Array
    """int64 (B,)."""
    lq: Tensor
    """float32 (B, C, H, W), channels_last, in units of the full range."""
    gt: Tensor
    """float32 (B, C, H, W), channels_last, in [0, 1]."""

    def parts(self, num: int) -> list["Batch"]:
        """Cut into `num` equal batches, in order. Raises TrainingError when rows do not divide."""
        rows = len(self.sample_ids)
        if rows % num:
            raise TrainingError(
                f"a worker's {rows} samples of a step do not divide into accumulate {num} parts; "
                f"use accumulate {math.gcd(rows, num)}, or fewer workers"
            )
        size = rows // num
        return [
            Batch(self.sample_ids[at], self.lq[at], self.gt[at])
            for at in (slice(start, start + size) for start in range(0, rows, size))
        ]


def to_tensor(pixels: Array, device: torch.device | str = "cpu") -> Tensor:
    """Turn (B, H, W, C) or (H, W, C) pixels into float32 (B, C, H, W) channels_last.

    The dtype tells the range: uint8 is divided by 255, uint16 by 65535, floats are already in
    units of the full range. Integers travel to the device and are divided there.
    """
    return joined([pixels if pixels.ndim == 4 else pixels[None]], device)


def joined(parts: list[Array], device: torch.device | str = "cpu") -> Tensor:
    """Return what `to_tensor` makes of (B, H, W, C) parts one after the other.

    Each part is read once, where it lies: blocks from the object store are read-only.
    """
    stored = parts[0].dtype
    peak = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(stored, 1.0)
    rows = sum(map(len, parts))
    shape = (rows, *parts[0].shape[1:])
    pixels = torch.empty(shape, dtype=torch.float32, device=device)
    start = 0
    for part in parts:
        pixels[start : start + len(part)].copy_(readable(part).to(device, non_blocking=True))
        start += len(part)
    return pixels.div_(peak).permute(0, 3, 1, 2)


def readable(pixels: Array) -> Tensor:
    """Return a tensor over the memory of pixels, which nobody may write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(pixels))


def to_batch(*parts: Rows, device: torch.device | str = "cpu") -> Batch:
    """Turn the columns `sample_id`, `lq`, `gt` of some rows into a batch on a device."""
    return Batch(
        sample_ids=np.concatenate([part["sample_id"] for part in parts]),
        lq=joined([part["lq"] for part in parts], device),
        gt=joined([part["gt"] for part in parts], device),
    )


@dataclass(frozen=True)
class Lanes:
    """The positions of the global batch that one worker consumes."""

    global_batch: int
    """Samples per step over all workers."""
    first: int
    """First lane of this worker."""
    num: int
    """Lanes of this worker."""

    @classmethod
    def of(cls, rank: int, num_workers: int, global_batch: int) -> "Lanes":
        """Return the share of a worker. Raises TrainingError when lanes do not divide."""
        if global_batch % num_workers:
            raise TrainingError(
                f"global batch {global_batch} does not divide among {num_workers} workers; "
                f"use a multiple of {num_workers}"
            )
        num = global_batch // num_workers
        return cls(global_batch, rank * num, num)

    def expected(self, step: int) -> Array:
        """Return the sample ids this worker consumes in a step."""
        return step * self.global_batch + self.first + np.arange(self.num)


def steps_of(blocks: Iterable[Rows], lanes: Lanes, *, first_step: int) -> Iterator[list[Rows]]:
    """Cut the blocks of a worker into steps, and refuse any row that is not the expected one.

    A block holds some steps of some lanes; blocks of the same steps follow each other until all
    lanes of the worker are there. A step comes in parts, one of each block, views of what lies in
    the object store; `to_batch` copies them. Raises StreamError naming the step when rows are
    missing, repeated or out of order.
    """
    step = first_step
    window: list[Rows] = []
    for block in blocks:
        if not len(block["sample_id"]):
            continue
        window.append(block)
        num_steps = num_steps_of(block, lanes)
        if sum(len(each["sample_id"]) for each in window) < num_steps * lanes.num:
            continue
        for index in range(num_steps):
            parts = [step_rows(each, index, num_steps) for each in window]
            found = np.concatenate([part["sample_id"] for part in parts])
            expected = lanes.expected(step)
            if not np.array_equal(found, expected):
                raise StreamError(
                    f"step {step} received samples {found.tolist()[:4]}… instead of "
                    f"{expected.tolist()[:4]}…: the stream lost or reordered rows; "
                    "run the same command again to resume from the last checkpoint"
                )
            yield parts
            step += 1
        window = []
    if window:
        raise StreamError(
            f"step {step} received {len(window[0]['sample_id'])} samples or more but not all: the "
            "stream lost or reordered rows; run the same command again to resume from the last "
            "checkpoint"
        )


def num_steps_of(block: Rows, lanes: Lanes) -> int:
    """Return over how many steps a block goes."""
    first, last = (int(block["sample_id"][row]) // lanes.global_batch for row in (0, -1))
    return last - first + 1


def step_rows(block: Rows, index: int, num_steps: int) -> Rows:
    """Return the rows of one step of a block."""
    num = len(block["sample_id"]) // num_steps
    return {name: column[index * num : (index + 1) * num] for name, column in block.items()}
