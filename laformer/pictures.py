"""What a validated image looks like beside what it was made of: one picture of three."""

import torch
from torch import nn

from laformer.batches import Array
from laformer.loop import Validated

PICTURE_PX = 512
"""Longest side of a picture of one image."""


def side_by_side(result: Validated) -> Array:
    """Return lq, restored and gt in one row (H, 3 W, 3) uint8, lq as large as the others.

    Of large images it is the centre.
    """
    scale = result.gt.shape[0] // result.lq.shape[0]
    small = [centre(length, PICTURE_PX // scale) for length in result.lq.shape[:2]]
    rows, columns = (slice(each.start * scale, each.stop * scale) for each in small)
    restored, gt = result.restored[rows, columns], result.gt[rows, columns]
    lq = result.lq[small[0], small[1], : gt.shape[2]]
    size, pictures = gt.shape[:2], [lq, restored, gt]
    images = [torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures]
    row = torch.cat([nn.functional.interpolate(image, size) for image in images], dim=3)
    return row[0].expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def centre(length: int, most: int) -> slice:
    """Return the middle of an axis, or all of it."""
    start = max(0, (length - most) // 2)
    return slice(start, min(length, start + most))
