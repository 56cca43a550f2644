"""Where the lq of a gt comes from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]
"""(H, W, C) in the bit depth of the file: the dtype tells the range."""

Degraded: TypeAlias = NDArray[np.uint8 | np.uint16 | np.float16]
"""As `Pixels`; float16 is in units of the full range, and may leave [0, 1]."""

Degrade: TypeAlias = Callable[[Pixels, np.random.Generator], Degraded]
"""A degradation: (gt, rng) -> lq of the same height and width. The input stays untouched."""


@dataclass(frozen=True)
class Synthesised:
    """lq is computed from gt on the fly."""

    degrade: Degrade
