"""What each degradation costs per crop, beside the simplest way to compute it.

    python -m tests.perf.degrade [--quick]

Everything that is compared runs in turn in one run: CPU microseconds of one thread, medians over
rounds, per uint8 RGB crop of 128 x 128 and 256 x 256. Prints a table and, as its last line, one
flat JSON object; --quick takes fewer rounds.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import torch

from pipelines.degradations import (
    Bicubic,
    Defocus,
    DualPixelDefocus,
    GaussianNoise,
    Haze,
    Jpeg,
    LowLight,
    MotionBlur,
    PoissonGaussian,
    PoissonNoise,
    Rain,
    Raindrops,
    Snow,
    SpeckleNoise,
    second_order,
)
from pipelines.degradations.bicubic import imresize
from pipelines.pixels import Degrade
from tests.perf.measure import THREADS, in_recycled_memory, interleaved, machine

SIDES = (128, 256)
CROPS = 8
"""Crops that one timed call degrades: other pixels each time, as in a stream."""


def keys(x: torch.Tensor) -> torch.Tensor:
    """Keys' cubic with a = -0.5."""
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x < 2))


def height_by_rows(planes: torch.Tensor, scale: int) -> torch.Tensor:
    """Return planes (C, H, W) with H / scale rows: one weighted sum per plane and row."""
    border = 3 * scale // 2
    taps = torch.arange(-border, scale + border)
    weights = keys((taps - (scale - 1) / 2) / scale)
    weights /= weights.sum()
    padded = torch.cat([planes[:, :border].flip(1), planes, planes[:, -border:].flip(1)], dim=1)
    made = torch.empty(len(planes), planes.shape[1] // scale, planes.shape[2])
    for row in range(made.shape[1]):
        for plane, out in zip(padded, made, strict=True):
            out[row] = plane[row * scale : row * scale + len(taps)].T.mv(weights)
    return (made + 0.5).floor().clamp(0, 255)


def bicubic_by_rows(gt: np.ndarray, scale: int) -> np.ndarray:
    """Return what `imresize(gt, 1 / scale)` makes of uint8 (H, W, C), row by row.

    The way of the super-resolution code bases in Python; as in MATLAB the height goes first and
    both passes are rounded.
    """
    planes = torch.from_numpy(gt).permute(2, 0, 1).float()
    columns = height_by_rows(planes, scale).transpose(1, 2)
    return height_by_rows(columns, scale).permute(2, 1, 0).byte().numpy()


def noise_in_float64(gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise of sigma 25 in numpy's default type."""
    return (gt / 255 + rng.normal(0, 25 / 255, gt.shape)).astype(np.float32)


class Row(NamedTuple):
    """A line of the table."""

    name: str
    ours: Degrade
    reference: Degrade | None
    """The simplest way to the same; None where ours is that already."""


def speckle_in_float64(gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiply by noise of sigma 25 in numpy's default type."""
    noisy = gt / 255 * (1 + rng.normal(0, 25 / 255, gt.shape))
    return (noisy.clip(0, 1) * 255).round().astype(np.uint8)


def in_linear_light(kernel: np.ndarray) -> Degrade:
    """Return the convolution in linear light by one filter2D."""

    def degrade(gt: np.ndarray, _: np.random.Generator) -> np.ndarray:
        light = (gt / np.float32(255)) ** np.float32(2.2)
        blurred = cv2.filter2D(light, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        return ((blurred ** np.float32(1 / 2.2)) * 255).round().astype(np.uint8)

    return degrade


def haze_by_formula(gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Veil by a depth of noise, enlarged."""
    depth = cv2.resize(rng.random((8, 8)), gt.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    seen = np.exp(-depth)[:, :, None]
    return ((gt / 255 * seen + 0.9 * (1 - seen)).clip(0, 1) * 255).round().astype(np.uint8)


def rain_by_kernel(gt: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smear sparse noise along a line of 21 pixels and add it."""
    seeds = (rng.random(gt.shape[:2]) < 0.01).astype(np.float32)
    streaks = cv2.filter2D(seeds, -1, np.eye(21, dtype=np.float32))
    return ((gt / 255 + streaks[:, :, None]).clip(0, 1) * 255).round().astype(np.uint8)


DEGRADATIONS = (
    Row("bicubic_x4", Bicubic(scale=4), lambda gt, _: bicubic_by_rows(gt, 4)),
    Row("gaussian_noise", GaussianNoise(sigma=(25, 25)), noise_in_float64),
    Row("speckle_noise", SpeckleNoise(sigma=(25, 25)), speckle_in_float64),
    Row("poisson_noise", PoissonNoise(strength=(1, 1)), None),
    Row("camera_noise", PoissonGaussian(), None),
    Row("jpeg_q40", Jpeg(quality=(40, 40)), None),
    Row(
        "motion_21px",
        MotionBlur(length=(21, 21), trajectory=0, sigma=(0, 0)),
        in_linear_light(np.eye(21, dtype=np.float32) / 21),
    ),
    Row("defocus", Defocus(), in_linear_light(np.full((17, 17), 1 / 289, np.float32))),
    Row("dual_pixel", DualPixelDefocus(), None),
    Row("haze", Haze(), haze_by_formula),
    Row("rain", Rain(veil=0), rain_by_kernel),
    Row("raindrops", Raindrops(), None),
    Row("snow", Snow(), None),
    Row("low_light", LowLight(), None),
    Row("second_order_x4", second_order(4), None),
)


def crops(side: int) -> list[np.ndarray]:
    """Return uint8 crops of structure and grain, from smooth ones to such of all levels."""
    rng = np.random.default_rng(0)
    found = []
    for strength in np.linspace(0, 64, CROPS):
        coarse = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        grain = rng.normal(0, strength, (side, side, 3))
        found.append((imresize(coarse, side, side) + grain).clip(0, 255).astype(np.uint8))
    return found


def over(images: list[np.ndarray], degrade: Degrade) -> Callable[[], object]:
    """Return a call that degrades every image."""
    rng = np.random.default_rng(0)
    return lambda: [degrade(gt, rng) for gt in images]


def measured(side: int, rounds: int) -> dict[tuple[str, str], float]:
    """Return microseconds per crop of every degradation and its reference."""
    images = crops(side)
    calls = {
        (row.name, who): over(images, degrade)
        for row in DEGRADATIONS
        for who, degrade in (("ours", row.ours), ("reference", row.reference))
        if degrade is not None
    }
    times = interleaved(calls, rounds)
    return {call: 1e6 * value / len(images) for call, value in times.items()}


def largest_difference() -> int:
    """Return by how many levels bicubic x4 and its reference differ at most."""
    rng = np.random.default_rng(0)
    return max(
        int(np.abs(Bicubic(scale=4)(gt, rng).astype(int) - bicubic_by_rows(gt, 4)).max())
        for gt in itertools.chain.from_iterable(crops(side) for side in SIDES)
    )


@in_recycled_memory
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="seconds, fewer rounds")
    rounds = 15 if parser.parse_args().quick else 100
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    print(machine())
    print(f"\nEach degradation's cost per crop against its simplest reference: us, {rounds} rounds")
    print(f"{'':16}" + "".join(f"{f'{side} x {side}':>18}{'reference':>12}" for side in SIDES))
    times = {side: measured(side, rounds) for side in SIDES}
    result = {}
    for row in DEGRADATIONS:
        print(f"{row.name:16}", end="")
        for side in SIDES:
            ours, reference = (times[side].get((row.name, who)) for who in ("ours", "reference"))
            if reference is None:
                print(f"{ours:18.0f}{'-':>12}{'':8}", end="")
                continue
            speedup = reference / ours
            print(f"{ours:18.0f}{reference:12.0f}{speedup:7.1f}x", end="")
            if isinstance(row.ours, Bicubic):
                result[f"{row.name}_{side}_speedup"] = float(f"{speedup:.3g}")
        print()
    print(json.dumps(result | {"bicubic_max_difference": largest_difference()}))


if __name__ == "__main__":
    main()
