"""What the best and the worst images of a benchmark look like, where it shows most."""

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from jobs.cluster import Cluster
from jobs.console import bar
from jobs.evaluation.contender import Contender
from jobs.evaluation.measures import levels
from jobs.evaluation.scoring import Score, Viewer, key_of
from jobs.evaluation.subjects import Subject
from jobs.page import Pair
from pipelines import images
from pipelines.images import Photo
from pipelines.restoration import actor_stream

CROP_PX = 320
"""Side of what is shown of an image, at full size."""
MOST_SHOWN = 12
"""Images on a page, of which a benchmark has two at least: the files of a page stay small."""


def chosen_keys(found: Score, num_benchmarks: int) -> dict[str, str]:
    """Return the images with the smallest and the largest gain, and which of the two it is."""
    each = max(1, MOST_SHOWN // (2 * num_benchmarks))
    rows = zip(found.gains_db(), found.values("key"), strict=True)
    keys = [str(key) for _, key in sorted(rows)]
    worst = dict.fromkeys(keys[:each], "smallest gain")
    best = {key: "largest gain" for key in keys[::-1][:each] if key not in worst}
    return best | worst


def pairs(
    found: Score, chosen: Subject, model: Contender, cluster: Cluster, num_benchmarks: int
) -> Iterator[Pair]:
    """Restore the best and the worst images again, and yield what to show of each."""
    wanted = chosen_keys(found, num_benchmarks)
    items = [
        {"keys": list(keys), "sizes": list(sizes)}
        for keys, sizes in zip(chosen.keys, chosen.sizes, strict=True)
        if key_of(chosen, {"keys": keys}) in wanted
    ]
    pool = cluster.pool(most=len(items))
    arguments = (chosen, model.loader(chosen.benchmark), _signs(wanted))
    with bar(f"pictures of {found.benchmark}", len(items)) as progress:
        crops = {}
        for crop in actor_stream(items, Look, arguments, pool):
            crops[crop["key"]] = crop
            progress.update(len(crops))
    scores = {row["key"]: row for row in found.rows}
    for key, which in wanted.items():
        yield Pair(
            key=f"{found.benchmark}, {which}: {key}",
            before=crops[key]["before"],
            after=crops[key]["after"],
            truth=crops[key]["truth"],
            before_psnr_db=scores[key]["input_psnr_db"],
            after_psnr_db=scores[key]["psnr_db"],
        )


def _signs(wanted: dict[str, str]) -> dict[str, float]:
    """Return whether to look for what got better, 1, or for what got worse, -1."""
    return {key: 1.0 if which.startswith("largest") else -1.0 for key, which in wanted.items()}


class Look:
    """Restores an image and cuts out the part where it gained, or lost, the most."""

    def __init__(self, chosen: Subject, loader: Callable[[], Any], signs: dict[str, float]) -> None:
        self.view = Viewer(chosen, loader)
        self.signs = signs

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the key, and three PNG files."""
        key, protocol = key_of(self.view.chosen, item), self.view.chosen.benchmark.protocol
        seen = self.view(item)
        before, after, truth = (
            levels(each, protocol) for each in (seen.shown, seen.restored, seen.gt)
        )
        gain = np.square(before - truth.astype(np.float64)) - np.square(after - truth)
        top, left = place(gain.mean(axis=2) * self.signs[key])
        cut = (slice(top, top + CROP_PX), slice(left, left + CROP_PX))
        named = {"before": before, "after": after, "truth": truth}
        return {"key": key} | {name: png(image[cut]) for name, image in named.items()}


def place(weight: Any) -> tuple[int, int]:
    """Return the corner of the square of a map (H, W) that has the largest sum.

    >>> weight = np.zeros((400, 700))
    >>> weight[390, 600] = 1
    >>> place(weight)
    (80, 281)
    """
    height, width = (min(CROP_PX, side) for side in weight.shape)
    sums = cv2.integral(weight)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    inside += sums[:-height, :-width]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return int(top), int(left)


def png(image: Any) -> bytes:
    """Encode levels (H, W, C), rounded to uint8."""
    pixels = np.ascontiguousarray(np.rint(image).clip(0, 255).astype(np.uint8))
    return images.encode(Photo(pixels=pixels), ".png")
