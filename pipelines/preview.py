"""A contact sheet: crops as training sees them, a photo a row, the clean crop first."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines import images
from pipelines.pairs import Captured
from pipelines.pixels import Degraded, to_eight_bit
from pipelines.scenes import Crop, Form
from pipelines.sources import Fetched
from pipelines.tasks import Task

GAP_PX = 4
LABEL_PX = 22
"""Height of the line of text above the columns."""

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What is shown."""

    task: Task
    """Whose degradation."""
    samples: int
    """Degraded crops a photo."""
    side_px: int
    """Side of a crop."""
    seed: int
    """Names the crops and the degradations."""

    def row(self, fetched: Fetched, index: int) -> list[Picture]:
        """Return the clean crop of a photo and its degraded ones, all of one size.

        A captured pair has one lq for a crop, however often it is looked at.
        """
        pairs = fetched.pairs
        scene = fetched.scene(pairs.scale)
        form = Form(bits=16, channels=self.task.channels)
        side = min(self.side_px, *scene.gt.shape[:2]) // pairs.scale * pairs.scale
        drawn = Crop.draw(scene.gt.shape, side, pairs, np.random.default_rng([self.seed, index]))
        crop = replace(drawn, turns=0, mirrored=False)
        row: list[Picture] = []
        for sample in range(1 if isinstance(pairs, Captured) else self.samples):
            rng = np.random.default_rng([self.seed, index, sample])
            gt, lq = scene.cut(crop, pairs, form, rng)
            row = row or [self._shown(gt)]
            row += [self._shown(view) for view in np.split(lq, self.task.views, axis=2)]
        return row

    def _shown(self, pixels: Degraded) -> Picture:
        """Return 8-bit RGB of the sheet's size; small images in visible pixels."""
        levels = to_eight_bit(pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels)
        if levels.shape[2] == 1:
            levels = np.repeat(levels, 3, axis=2)
        size = (self.side_px, self.side_px)
        return np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def contact_sheet(rows: list[list[Picture]]) -> bytes:
    """Lay out pictures of one size, gt first in each row; return PNG bytes."""
    side = rows[0][0].shape[0]
    step = side + GAP_PX
    columns = ["gt", *(f"lq {n + 1}" for n in range(max(map(len, rows)) - 1))]
    height, width = LABEL_PX + step * len(rows), step * len(columns) + GAP_PX
    sheet = np.full((height, width, 3), 255, np.uint8)
    for column, name in enumerate(columns):
        place = (GAP_PX + step * column, LABEL_PX - 6)
        cv2.putText(sheet, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, left = LABEL_PX + step * row, GAP_PX + step * column
            sheet[top : top + side, left : left + side] = picture
    return images.encode(images.Photo(pixels=sheet), ".png")
