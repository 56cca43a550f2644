"""Rows to batches: the one place where integers become floats."""

import math
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
    if pixels.dtype == np.uint16:  # torch divides few things by a uint16
        pixels = pixels.astype(np.int32)
        peak = 65535.0
    else:
        peak = 255.0 if pixels.dtype == np.uint8 else 1.0
    if not pixels.flags.writeable or not pixels.flags.c_contiguous:
        pixels = pixels.copy()  # blocks from the object store are read-only
    tensor = torch.from_numpy(pixels).to(device, non_blocking=True)
    tensor = tensor if tensor.ndim == 4 else tensor[None]
    return tensor.to(torch.float32).div_(peak).permute(0, 3, 1, 2)


def to_batch(rows: Rows, device: torch.device | str = "cpu") -> Batch:
    """Turn the columns `sample_id`, `lq`, `gt` of some rows into a batch on a device."""
    return Batch(
        sample_ids=rows["sample_id"],
        lq=to_tensor(rows["lq"], device),
        gt=to_tensor(rows["gt"], device),
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


def steps_of(blocks: Iterable[Rows], lanes: Lanes, *, first_step: int) -> Iterator[Rows]:
    """Cut the blocks of a worker into steps, and refuse any row that is not the expected one.

    A block holds some steps of some lanes; blocks of the same steps follow each other until all
    lanes of the worker are there. Raises StreamError naming the step when rows are missing,
    repeated or out of order.
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
            rows = joined([step_rows(each, index, num_steps) for each in window])
            expected = lanes.expected(step)
            if not np.array_equal(rows["sample_id"], expected):
                raise StreamError(
                    f"step {step} received samples {rows['sample_id'].tolist()[:4]}… instead of "
                    f"{expected.tolist()[:4]}…: the stream lost or reordered rows; "
                    "run the same command again to resume from the last checkpoint"
                )
            yield rows
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


def joined(parts: list[Rows]) -> Rows:
    """Return the rows of several blocks one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
