"""What a network does to a few photos, in this process: finite numbers, kept colours, its time."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.evaluation.subjects import Subject
from jobs.versions.gate import Check
from laformer.errors import ModelError
from laformer.restore import Restorer
from pipelines.sources import read
from pipelines.tasks import find
from pipelines.validation import judged

MOST_PHOTOS, CROP_PX = 8, 256
"""Photos that are looked at, and the side of their centre that is."""
CHANGES_MEANS = ("dehaze", "lowlight")
"""Tasks that change the mean of a clean photo by design: theirs is that of restored bad ones."""
ROUNDS = 5
"""Times of each network, in turn, of which the median counts."""
TIMED_PX = {"cpu": 256, "cuda": 1024}
"""Side of the image that is timed: large enough that the start of a call does not count."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Photos:
    """Centres of a benchmark's first images, as they come from a camera."""

    clean: tuple[Array, ...]
    """(H, W, C) uint8."""
    degraded: tuple[Array, ...]
    """(H, W, C) uint8 or float32 for each clean one."""

    @classmethod
    def of(cls, subject: Subject) -> "Photos":
        """Read them."""
        pairs = []
        for keys, sizes in list(zip(subject.keys, subject.sizes, strict=True))[:MOST_PHOTOS]:
            files = map(read, subject.roots, keys, sizes)
            gt, lq = judged(subject.benchmark, files, subject.profile)
            pairs.append((centre(gt, CROP_PX), centre(lq, CROP_PX // subject.benchmark.enlarge)))
        return cls(*(tuple(each) for each in zip(*pairs, strict=True)))


def centre(image: Array, side_px: int) -> Array:
    """Return the middle of an image (H, W, C), or all of a smaller one."""
    top, left = (max(0, (length - side_px) // 2) for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side_px, left : left + side_px])


def picture_checks(
    restore: Restorer, task: str, photos: Photos, most_levels: float
) -> Iterator[Check]:
    """Yield whether all numbers are finite, and the colours of clean photos stay."""
    clean = [np.tile(gt, (1, 1, find(task).views)) for gt in photos.clean]
    flat = [np.full((64, 64, clean[0].shape[2]), level, np.uint8) for level in (0, 255)]
    try:
        for image in (*photos.degraded, *flat):
            restore(image)
        shown = list(photos.degraded) if task in CHANGES_MEANS else clean
        restored = [restore(image) for image in shown]
    except ModelError as error:
        yield Check(
            what="numbers", found=str(error), rule="finite", holds=False, act="train with lower lr"
        )
        return
    num = len(shown) + len(photos.degraded) + len(flat)
    yield Check(what="numbers", found=f"finite in {num} images", rule="finite", holds=True)
    shift = colour_shift(restored, list(photos.clean))
    worst = max(shift, key=abs)
    yield Check(
        what=f"colour of {len(shown)} {'restored' if shown is not clean else 'clean'} photos",
        found=f"a mean shift of {worst:+.2f} levels in the worst channel",
        rule=f"at most {most_levels:g} levels of 255",
        holds=abs(worst) <= most_levels,
        act="look at the pictures of the run; train longer",
    )


def colour_shift(restored: list[Array], clean: list[Array]) -> list[float]:
    """Return the mean shift of each channel over images, in 8-bit levels.

    >>> image = np.full((4, 4, 3), 100, np.uint8)
    >>> colour_shift([image + np.uint8([0, 2, 4])], [image])
    [0.0, 2.0, 4.0]
    """
    means = [[levels(image).mean(axis=(0, 1)) for image in images] for images in (restored, clean)]
    shift: list[float] = (np.mean(means[0], axis=0) - np.mean(means[1], axis=0)).tolist()
    return shift


def levels(image: Array) -> Array:
    """Return an image in 8-bit levels, as float64; floats are clipped as a file clips them."""
    if np.issubdtype(image.dtype, np.integer):
        return image * (255 / np.iinfo(image.dtype).max)
    return np.clip(image, 0, 1) * 255.0


def ms_per_megapixel(*networks: Restorer) -> list[float]:
    """Return the median time of each network in ms per megapixel of its input.

    They take turns in this process, so that what else the machine does falls on all of them.
    """
    device = networks[0].device
    side = TIMED_PX.get(device.type, TIMED_PX["cuda"])
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (side, side, each.model.config.in_channels), dtype=np.uint8)
        for each in networks
    ]
    times_s: list[list[float]] = [[] for _ in networks]
    for _ in range(1 + ROUNDS):
        for restore, image, found in zip(networks, images, times_s, strict=True):
            started = time.perf_counter()
            restore(image)  # returns an array on the host: nothing is under way any more
            found.append(time.perf_counter() - started)
    return [1e9 * statistics.median(found[1:]) / side**2 for found in times_s]


def time_checks(
    ours: Restorer,
    theirs: Restorer | None,
    *,
    most_ms: float | None,
    most_times: float | None,
) -> Iterator[Check]:
    """Yield whether a network is fast enough, by itself and beside the champion."""
    if most_ms is None and (most_times is None or theirs is None):
        return
    found = ms_per_megapixel(ours, theirs) if theirs else ms_per_megapixel(ours)
    beside = f", the champion {found[1]:.0f} ms" if theirs else ""
    where = f"time of a megapixel on {ours.device.type}"
    if most_ms is not None:
        yield Check(
            what=where,
            found=f"{found[0]:.0f} ms{beside}",
            rule=f"at most {most_ms:g} ms",
            holds=found[0] <= most_ms,
            act="train a smaller network",
        )
    if most_times is not None and theirs:
        yield Check(
            what=f"{where}, over the champion's",
            found=f"{found[0] / found[1]:.2f} times",
            rule=f"at most {most_times:g} times",
            holds=found[0] <= most_times * found[1],
            act="train a smaller network",
        )
