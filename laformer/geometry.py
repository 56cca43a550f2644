"""Image geometry: sizes that fit the U, and bicubic enlargement."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from laformer.config import NUM_LEVELS

MULTIPLE = 2 ** (NUM_LEVELS - 1)
"""The U halves height and width this often: inputs are padded to a multiple and cropped back."""
BICUBIC_REACH = 2
"""Pixels on each side that bicubic enlargement looks at."""
KEYS = -0.5
"""The free parameter of the cubic kernel: Keys (1981), and MATLAB's imresize."""


def pad_to_multiple(x: Tensor) -> Tensor:
    """Extend (B, C, H, W) at the bottom and right to multiples, as `padding` says."""
    bottom, right, mode = padding(x.shape[2], x.shape[3])
    return F.pad(x, (0, right, 0, bottom), mode=mode) if bottom or right else x


def padding(height: int, width: int) -> tuple[int, int, str]:
    """Return the rows and columns that multiples lack, and F.pad's mode: mirrored where possible.

    Mirroring needs more pixels than it adds; a smaller image repeats its edge.
    """
    bottom, right = -height % MULTIPLE, -width % MULTIPLE
    return bottom, right, "reflect" if bottom < height and right < width else "replicate"


def enlarge(x: Tensor, scale: int, *, halo: int = 0) -> Tensor:
    """Enlarge (B, C, H, W) to (B, C, H * scale, W * scale) by bicubic interpolation.

    Pixel centres are half a pixel inside the border, as in MATLAB's imresize; the edge is
    repeated beyond it. A part of an image brings `halo` = BICUBIC_REACH rows of its neighbours,
    and the result is that of its own rows. With integer scales a pixel needs one of `scale` sets
    of weights, whatever its place: parts of an image fit together exactly.
    """
    batch, channels, height, width = x.shape
    rows = BICUBIC_REACH - halo
    planes = x.reshape(batch * channels, 1, height, width)
    framed = F.pad(planes, (BICUBIC_REACH, BICUBIC_REACH, rows, rows), mode="replicate")
    large = F.pixel_shuffle(F.conv2d(framed, bicubic_weights(scale).to(x)), scale)
    return large.reshape(batch, channels, *large.shape[2:])


def bicubic_weights(scale: int) -> Tensor:
    """Return the weights (scale ** 2, 1, 5, 5) of every phase of both axes, float64."""
    phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    taps = torch.arange(-BICUBIC_REACH, BICUBIC_REACH + 1, dtype=torch.float64)
    distance = (phase[:, None] - taps).abs()
    near = ((KEYS + 2) * distance - (KEYS + 3)) * distance**2 + 1
    far = KEYS * (((distance - 5) * distance + 8) * distance - 4)
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    both = weights[:, None, :, None] * weights[None, :, None, :]
    return both.reshape(scale**2, 1, *both.shape[2:])
