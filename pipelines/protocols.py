"""By which rule a restored image is compared with its gt.

A PSNR means nothing without its protocol, so that its name is printed beside every number.
Networks pad an image themselves to what they need and cut the padding off again, by reflection
here: what the field states as a multiple of 8 or 32 is a fact of its networks, not of the score.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Measured: TypeAlias = Literal[
    "psnr_db",
    "psnr_b_db",
    "ssim",
    "ssim_3d",
    "ssim_uniform7",
    "ssim_uniform11",
    "ssim_pooled",
    "mae",
]
"""What can be measured: `jobs.evaluation.measures` says what each is."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a restored image is compared with its gt. Two protocols never share a name."""

    name: str
    """Printed beside every number."""
    channel: Literal["rgb", "y", "y-rounded", "grey"]
    """What is compared: all of RGB, grey, or Y of BT.601 studio range (16-235).

    "y-rounded" is Y in whole levels, which MATLAB's `rgb2ycbcr` makes of a uint8 image.
    """
    border_px: int = 0
    """Pixels ignored on each side, before the channel is taken."""
    quantise: bool = True
    """Whether the output is clipped and rounded to uint8 first; otherwise it is clipped alone."""
    bits: Literal[8, 16] = 8
    """Of the levels of lq and gt; deeper files are rounded to 8."""
    measures: tuple[Measured, ...] = ("psnr_db",)
    """What is reported."""
    align: bool = False
    """Whether the output is first laid over gt by a homography, and compared where both are."""

    def __post_init__(self) -> None:
        """Check the border, and that the parts of the rule go together."""
        if self.border_px < 0:
            raise ValueError(f"border_px {self.border_px} is negative; use 0 for no border")
        if self.channel == "y-rounded" and not self.quantise:
            raise ValueError(
                "channel 'y-rounded' is made of uint8, but quantise is False; use channel 'y'"
            )
        if self.bits == 16 and self.quantise:
            raise ValueError("bits 16 would be rounded to uint8; use quantise=False, or bits 8")
        if self.border_px and "psnr_b_db" in self.measures:
            raise ValueError(
                f"border_px {self.border_px} would shift the blocks of psnr_b_db; use border 0"
            )
        if self.align and (self.channel != "rgb" or set(self.measures) - {"psnr_db", "ssim"}):
            raise ValueError(
                f"align compares RGB by psnr_db and ssim, not {self.channel} by "
                f"{', '.join(self.measures)}; leave the others out"
            )


def sr_y(scale: int) -> Protocol:
    """Return the protocol of super-resolution by `scale`: rounded Y of the uint8 output.

    The border is the scale. Source: SRCNN and the MATLAB scripts after it, which take `rgb2ycbcr`
    of uint8; the known scores of bicubic enlargement are these. Code bases in Python (BasicSR)
    leave Y unrounded, which reads higher: bicubic on Set5 by 0.03 dB at x2, by 0.01 dB at x4.
    """
    return Protocol(
        name=f"sr-y-x{scale}", channel="y-rounded", border_px=scale, measures=("psnr_db", "ssim")
    )


GAUSSIAN_COLOUR = Protocol(name="gaussian-colour", channel="rgb")
"""PSNR on RGB of the uint8 output. Source: FFDNet, DRUNet, SwinIR, Restormer."""

GAUSSIAN_GREY = Protocol(name="gaussian-grey", channel="grey")
"""PSNR on the uint8 output. Source: DnCNN and the same."""

JPEG_GREY = Protocol(name="jpeg-grey", channel="grey", measures=("psnr_db", "ssim", "psnr_b_db"))
"""PSNR, SSIM and PSNR-B on the uint8 output of grey images. Source: DnCNN, SwinIR."""

JPEG_COLOUR = Protocol(name="jpeg-colour", channel="rgb", measures=("psnr_db", "ssim", "psnr_b_db"))
"""PSNR, SSIM and PSNR-B on RGB of the uint8 output. Source: QGAC, FBCNN, SwinIR."""

HELD_OUT_RGB = Protocol(name="held-out-rgb", channel="rgb", measures=("psnr_db", "ssim"))
"""PSNR and SSIM on RGB of the uint8 output, for photos of one's own and any degradation."""

DERAIN_Y = Protocol(name="derain-y", channel="y-rounded", measures=("psnr_db", "ssim"))
"""PSNR and SSIM on rounded Y of the uint8 output. Source: the MATLAB scripts of MSPFN, MPRNet."""

DEBLUR_RGB = Protocol(name="deblur-rgb", channel="rgb", measures=("psnr_db", "ssim_3d"))
"""PSNR and MATLAB's SSIM on RGB of the uint8 output. Source: GoPro, MPRNet, NAFNet."""

REALBLUR = Protocol(
    name="realblur-aligned", channel="rgb", measures=("psnr_db", "ssim"), align=True
)
"""PSNR and SSIM on RGB of the uint8 output after alignment. Source: RealBlur, MPRNet."""

SIDD = Protocol(name="sidd-rgb", channel="rgb", quantise=False, measures=("psnr_db", "ssim_3d"))
"""PSNR and MATLAB's SSIM on RGB, clipped but not rounded. Source: MPRNet, NAFNet."""

DPDD_8, DPDD_16 = (
    Protocol(
        name=f"dpdd-rgb-{bits}bit",
        channel="rgb",
        quantise=False,
        bits=bits,
        measures=("psnr_db", "ssim_uniform7", "mae"),
    )
    for bits in (8, 16)
)
"""PSNR, scikit-image's SSIM and MAE on RGB, clipped but not rounded. Source: DPDNet, Restormer."""

DEHAZE_RGB = Protocol(
    name="dehaze-rgb",
    channel="rgb",
    quantise=False,
    measures=("psnr_db", "ssim", "ssim_pooled"),
)
"""PSNR and SSIM on RGB, clipped but not rounded. The SSIM of the field is the pooled one, which
reads higher; the other is that of the full size. Source: DehazeFormer."""

DESNOW_RGB = Protocol(
    name="desnow-rgb", channel="rgb", quantise=False, measures=("psnr_db", "ssim_pooled")
)
"""PSNR and pooled SSIM on RGB, clipped but not rounded. Source: IRNeXt, ConvIR."""

WEATHER_Y = Protocol(name="weather-y", channel="y", measures=("psnr_db", "ssim_uniform11"))
"""PSNR and SSIM under a square window of 11 on Y of the uint8 output. Source: TransWeather."""
