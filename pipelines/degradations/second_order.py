"""The blind degradation of Real-ESRGAN: photos as the web passes them on."""

from pipelines.degradations.blur_kernels import Blur
from pipelines.degradations.chain import Chain, OneOf, Sometimes
from pipelines.degradations.gaussian_noise import GaussianNoise
from pipelines.degradations.jpeg import Jpeg
from pipelines.degradations.poisson_noise import PoissonNoise
from pipelines.degradations.resize import Resize, ResizeFromGt, ResizeToGt
from pipelines.degradations.sinc import Sinc


def second_order(scale: int = 4) -> Chain:
    """Return blur, resize, noise and JPEG, twice; lq is exactly `scale` times smaller than gt.

    At scale 1 it is blind restoration at the same size. Source: Real-ESRGAN (Wang et al., 2021),
    figure 2 and the published settings. Theirs sharpen gt for some losses; that is not part of lq.
    """
    jpeg = Jpeg(quality=(30, 95))
    return Chain(
        _blur(sigma=(0.2, 3.0)),
        Resize(factor=(0.15, 1.5), odds=(0.2, 0.7, 0.1)),
        _noise(sigma=(1, 30), strength=(0.05, 3.0)),
        jpeg,
        Sometimes(0.8, _blur(sigma=(0.2, 1.5))),
        ResizeFromGt(divisor=scale, factor=(0.3, 1.2), odds=(0.3, 0.4, 0.3)),
        _noise(sigma=(1, 25), strength=(0.05, 2.5)),
        _last(scale, jpeg),
    )


def _blur(sigma: tuple[float, float]) -> OneOf:
    """Return a blur that one time in ten is a low-pass filter.

    Small kernels of the latter cannot hold a low cutoff: of the eight sides from 7 to 21, three
    are below 13 px, and 72 : 8 is nine to one.
    """
    return OneOf(
        Blur(sigma=sigma),
        Sinc(side_px=(7, 11), cutoff=(1 / 3, 1.0)),
        Sinc(side_px=(13, 21), cutoff=(1 / 5, 1.0)),
        weights=(72, 3, 5),
    )


def _noise(sigma: tuple[float, float], strength: tuple[float, float]) -> OneOf:
    """Return noise of the sensor's electronics or of the light, half the time each."""
    return OneOf(
        GaussianNoise(sigma=sigma, grey=0.4, clip=True),
        PoissonNoise(strength=strength, grey=0.4),
    )


def _last(scale: int, jpeg: Jpeg) -> OneOf:
    """Return the way to the last size, sharpening that rings, and JPEG before or after both."""
    resize = ResizeToGt(scale)
    ringing = Sometimes(0.8, Sinc(side_px=(7, 21), cutoff=(1 / 3, 1.0)))
    return OneOf(Chain(resize, ringing, jpeg), Chain(jpeg, resize, ringing))
