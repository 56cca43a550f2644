"""Degradations: one small file each, callable values (gt, rng) -> lq."""

from pipelines.degradations.bicubic import Bicubic
from pipelines.degradations.blur_kernels import Blur
from pipelines.degradations.chain import Chain, OneOf, Sometimes
from pipelines.degradations.defocus import Defocus, DualPixelDefocus
from pipelines.degradations.gaussian_noise import GaussianNoise
from pipelines.degradations.haze import Haze
from pipelines.degradations.jpeg import Jpeg
from pipelines.degradations.low_light import LowLight
from pipelines.degradations.motion_blur import MotionBlur
from pipelines.degradations.poisson_noise import PoissonNoise
from pipelines.degradations.rain import Rain
from pipelines.degradations.raindrop import Raindrops
from pipelines.degradations.resize import Resize, ResizeFromGt, ResizeToGt
from pipelines.degradations.second_order import second_order
from pipelines.degradations.sensor_noise import PoissonGaussian
from pipelines.degradations.sinc import Sinc
from pipelines.degradations.snow import Snow
from pipelines.degradations.speckle_noise import SpeckleNoise

__all__ = [
    "Bicubic",
    "Blur",
    "Chain",
    "Defocus",
    "DualPixelDefocus",
    "GaussianNoise",
    "Haze",
    "Jpeg",
    "LowLight",
    "MotionBlur",
    "OneOf",
    "PoissonGaussian",
    "PoissonNoise",
    "Rain",
    "Raindrops",
    "Resize",
    "ResizeFromGt",
    "ResizeToGt",
    "Sinc",
    "Snow",
    "Sometimes",
    "SpeckleNoise",
    "second_order",
]
