"""Where the lq of a gt comes from: it is computed, or somebody took it."""

from dataclasses import dataclass
from typing import TypeAlias

from pipelines.pixels import Degrade, margin_of, scale_of


@dataclass(frozen=True)
class Synthesised:
    """lq is computed from gt on the fly."""

    degrade: Degrade
    """How."""

    @property
    def scale(self) -> int:
        """Height and width of gt over those of lq."""
        return scale_of(self.degrade)

    @property
    def margin_px(self) -> int:
        """Pixels around a crop that its lq is made of."""
        return margin_of(self.degrade)


@dataclass(frozen=True)
class Captured:
    """lq was taken of the same scene as gt: it is read, and cut where gt is cut."""

    views: int = 1
    """Images of lq for each gt: 2 for the left and right view of a dual-pixel camera."""
    scale: int = 1
    """Height and width of gt over those of lq."""

    def __post_init__(self) -> None:
        """Refuse what no manifest holds."""
        if self.views not in (1, 2):
            raise ValueError(f"views {self.views} is neither 1 nor 2; use 1 for one lq a gt")
        if self.scale < 1:
            raise ValueError(f"scale {self.scale} is less than 1; use 1 for sides that are equal")


Pairs: TypeAlias = Synthesised | Captured
