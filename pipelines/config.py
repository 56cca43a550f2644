"""Configuration of the streams. Standard library only."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Profile: TypeAlias = Literal["keep", "srgb"]
"""What becomes of an embedded colour profile: levels stay as stored, or are turned into sRGB."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How clean images become training samples."""

    crops_per_visit: int = 16
    """Crops cut from one decode of an image."""
    visits_per_window: int = 2
    """Consecutive decodes of a lane whose crops are shuffled together."""
    validation_px: int = 256
    """Side in pixels of the centre crops that are validated during training.

    0 validates whole photos, degraded and compared under the protocol of the task."""
    validation_images: int = 32
    """At most this many held-out images are validated during training."""

    def __post_init__(self) -> None:
        """Refuse empty streams."""
        if self.validation_px < 0:
            raise ValueError(f"validation_px {self.validation_px} is negative; use 0: whole photos")
        for name, value in vars(self).items():
            if value < 1 and name != "validation_px":
                raise ValueError(f"{name} {value} is less than 1; use at least 1")


@dataclass(frozen=True, kw_only=True)
class RestoreConfig:
    """How a folder or bucket is restored."""

    actors: int | None = None
    """Restorer actors; one per GPU, or one per two cores without a GPU, when not given."""
    overwrite: bool = False
    """Replace what is there: of another model or other options, and of this job if it was finished.

    A job that was killed goes on, with or without it."""
    verify: bool = False
    """Read finished results again, and restore those that are not what was written."""
    max_bad_fraction: float = 0.5
    """The job fails when more than this fraction of the images cannot be restored."""
    patience_s: float = 300.0
    """How long storage may be away, in seconds, before the job ends; no image is bad for it."""

    def __post_init__(self) -> None:
        """Refuse no actors and fractions that are none."""
        if self.actors is not None and self.actors < 1:
            raise ValueError(f"actors {self.actors} is less than 1; use at least 1")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(
                f"max_bad_fraction {self.max_bad_fraction} is outside [0, 1]; use for example 0.05"
            )
        if not self.patience_s >= 0:
            raise ValueError(f"patience_s {self.patience_s:g} is negative; use for example 300")


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the images are, and which lq was taken beside which gt."""

    root: str
    """Folder or bucket of the clean images."""
    lq_roots: tuple[str, ...] = ()
    """Folder or bucket of the lq images: one, or the left and the right view; none: computed."""
    match: tuple[str, str] | None = None
    """Regular expression and replacement that turn the name of a gt into the name of its lq."""
    scale: int = 1
    """Side of gt over side of lq."""
    profile: Profile = "keep"
    """What becomes of embedded colour profiles wherever these images are decoded."""

    def __post_init__(self) -> None:
        """Refuse what pairs nothing."""
        if len(self.lq_roots) > 2:
            raise ValueError(
                f"lq is given {len(self.lq_roots)} times; give one folder or two views"
            )
        if self.scale < 1:
            raise ValueError(f"scale {self.scale} is less than 1; use 4 for a gt of four times lq")
        if not self.lq_roots and (self.match or self.scale != 1):
            raise ValueError(
                "match and scale are about captured pairs; name their folder with --lq"
            )
        if len(set(self.lq_roots)) < len(self.lq_roots):
            raise ValueError(
                f"lq {self.lq_roots[0]} is given twice; give the left and the right view"
            )
        if self.root in self.lq_roots and not self.match:
            raise ValueError(
                f"lq {self.root} is the folder of gt too; tell them apart with for example "
                "--match _GT_ _NOISY_"
            )
        try:
            re.sub(*(self.match or ("", "")), "")
        except re.error as error:
            raise ValueError(
                f"match {self.match} is no pattern with its replacement ({error}); use for example "
                "--match _GT_ _NOISY_"
            ) from error
