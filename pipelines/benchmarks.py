"""What is measured, by which rule and in which folders: one entry per benchmark, top to bottom.

The folders are below the one that `--data` names. Where lq is made, the folder of gt is enough;
where it was taken, the folders are those of the archive as it is published, or of the copy that
most of the field passes around (MPRNet's and Restormer's: `input` and `target`). A set of training
and test images in one archive is to be laid down as the test images alone. Several folders inside
the folder are one set.

A published score is what a paper reports of its own network. It is a mean of PSNR in dB.
"""

from itertools import product

from pipelines.families import (
    Benchmark,
    gaussian_colour,
    gaussian_grey,
    jpeg_colour,
    jpeg_grey,
    super_resolution,
)
from pipelines.inputs import KODAK24, Taken
from pipelines.protocols import (
    DEBLUR_RGB,
    DEHAZE_RGB,
    DERAIN_Y,
    DESNOW_RGB,
    DPDD_8,
    DPDD_16,
    REALBLUR,
    SIDD,
    WEATHER_Y,
    Protocol,
)

SIGMAS, QUALITIES, SCALES = (15, 25, 50), (10, 20, 30, 40), (2, 3, 4)


def restormers(folder: str, task: str, protocol: Protocol, **published: float) -> Benchmark:
    """Return a benchmark of equal names in `<folder>/input` and `<folder>/target`."""
    return Benchmark(
        name=folder.lower().replace("_", "-"),
        folder=f"{folder}/target",
        task=task,
        protocol=protocol,
        degrade=Taken(folders=(f"{folder}/input",)),
        published=tuple((name.replace("_", "-"), db) for name, db in published.items()),
    )


def dpdd(views: str, scenes: str = "", **published: float) -> Benchmark:
    """Return DPDD of a single view, or of the left and right ones; indoor, outdoor or all.

    The names of its files say nothing, and two files of numbers say what was taken where. Source:
    Abuolaim and Brown, ECCV 2020; the numbers are those of the published code.
    """
    shots = ("test_c",) if views == "single" else ("test_l", "test_r")
    return Benchmark(
        name="-".join(filter(None, ("dpdd", views, scenes))),
        folder="DPDD/test_c/target",
        task="deblur-defocus" if views == "single" else "deblur-defocus-dual",
        protocol=DPDD_8 if views == "single" else DPDD_16,
        degrade=Taken(
            folders=tuple(f"DPDD/{shot}/source" for shot in shots),
            in_order=True,
            only=f"DPDD/{scenes}_labels.npy" if scenes else "",
        ),
        published=tuple(published.items()),
    )


def weather(name: str, gt: str, lq: str, match: tuple[str, str] | None = None) -> Benchmark:
    """Return a benchmark of networks for all kinds of bad weather."""
    return Benchmark(
        name=name,
        folder=gt,
        task="weather",
        protocol=WEATHER_Y,
        degrade=Taken(folders=(lq,), match=match),
    )


def hazy(
    name: str, gt: str, lq: str, match: tuple[str, str], *, published: tuple[tuple[str, float], ...]
) -> Benchmark:
    """Return a benchmark of dehazing."""
    return Benchmark(
        name=name,
        folder=gt,
        task="dehaze",
        protocol=DEHAZE_RGB,
        degrade=Taken(folders=(lq,), match=match),
        published=published,
    )


def snowy(name: str, gt: str, lq: str, **published: float) -> Benchmark:
    """Return a benchmark of desnowing, of equal names in two folders."""
    return Benchmark(
        name=name,
        folder=gt,
        task="desnow",
        protocol=DESNOW_RGB,
        degrade=Taken(folders=(lq,)),
        published=tuple((model.replace("_", "-"), db) for model, db in published.items()),
    )


_TABLE = (
    gaussian_colour("cbsd68", 15, published=(("SwinIR", 34.42),)),
    gaussian_colour("cbsd68", 25, published=(("FFDNet", 31.21), ("SwinIR", 31.78))),
    gaussian_colour("cbsd68", 50, published=(("SwinIR", 28.56), ("Restormer", 28.60))),
    gaussian_colour("kodak24", 15, prepare=KODAK24, published=(("SwinIR", 35.34),)),
    gaussian_colour(
        "kodak24", 25, prepare=KODAK24, published=(("FFDNet", 32.13), ("SwinIR", 32.89))
    ),
    gaussian_colour(
        "kodak24", 50, prepare=KODAK24, published=(("SwinIR", 29.79), ("Restormer", 30.01))
    ),
    gaussian_colour("mcmaster", 15, published=(("SwinIR", 35.61),)),
    gaussian_colour("mcmaster", 25, published=(("FFDNet", 32.35), ("SwinIR", 33.20))),
    gaussian_colour("mcmaster", 50, published=(("SwinIR", 30.22), ("Restormer", 30.30))),
    *(gaussian_colour("urban100/hr", sigma) for sigma in SIGMAS),
    *(gaussian_grey(folder, sigma) for folder, sigma in product(("set12", "bsd68"), SIGMAS)),
    jpeg_grey("classic5", 10, published=(("MambaIR", 30.27),)),
    jpeg_grey("classic5", 20),
    jpeg_grey("classic5", 30, published=(("MambaIR", 33.74),)),
    jpeg_grey("classic5", 40, published=(("MambaIR", 34.53),)),
    *(jpeg_grey("live1", quality) for quality in QUALITIES),
    *(jpeg_colour("live1", quality) for quality in QUALITIES),
    super_resolution("set5", 2),
    super_resolution("set5", 3),
    super_resolution("set5", 4, published=(("SwinIR", 32.92), ("HAT", 33.04))),
    super_resolution("set14", 2),
    super_resolution("set14", 3),
    super_resolution("set14", 4, published=(("SwinIR", 29.09), ("HAT", 29.23))),
    *(
        super_resolution(folder, scale)
        for folder, scale in product(("bsd100", "urban100", "manga109"), SCALES)
    ),
    *(
        restormers(folder, "derain", DERAIN_Y)
        for folder in ("Rain100L", "Rain100H", "Test100", "Test1200", "Test2800")
    ),
    restormers("GoPro", "deblur-motion", DEBLUR_RGB, NAFNet_64=33.71, Restormer=32.92),
    restormers("HIDE", "deblur-motion", DEBLUR_RGB),
    restormers("RealBlur_J", "deblur-motion", REALBLUR),
    restormers("RealBlur_R", "deblur-motion", REALBLUR),
    # The 1280 blocks of 256x256 as image files.
    restormers("SIDD", "denoise-real", SIDD),
    dpdd("single", Restormer=25.98),
    dpdd("single", "indoor"),
    dpdd("single", "outdoor"),
    dpdd("dual"),
    dpdd("dual", "indoor"),
    dpdd("dual", "outdoor"),
    # 1400_1.png to 1400_10.png are hazes of 1400.png.
    hazy("sots-indoor", "SOTS/indoor/gt", "SOTS/indoor/hazy", (r"_\d+$", ""), published=()),
    # 0001_0.8_0.2.jpg is a haze of 0001.png.
    hazy(
        "sots-outdoor",
        "SOTS/outdoor/gt",
        "SOTS/outdoor/hazy",
        (r"_[\d.]+_[\d.]+$", ""),
        published=(),
    ),
    hazy(
        "dense-haze",
        "Dense-Haze/GT",
        "Dense-Haze/hazy",
        ("_hazy$", "_GT"),
        published=(("ConvIR-B", 16.86),),
    ),
    # 51_hazy.png and 51_GT.png lie in one folder.
    hazy("nh-haze", "NH-HAZE", "NH-HAZE", ("_hazy$", "_GT"), published=()),
    snowy("csd", "CSD/Gt", "CSD/Snow", ConvIR_B=39.10),
    snowy("srrs", "SRRS/Gt", "SRRS/Snow"),
    snowy("snow100k", "Snow100K/gt", "Snow100K/synthetic"),
    weather("snow100k-s", "Snow100K-S/gt", "Snow100K-S/synthetic"),
    weather("snow100k-l", "Snow100K-L/gt", "Snow100K-L/synthetic"),
    # im_0001_s80_a04.png is rain in im_0001.png.
    weather("outdoor-rain", "Outdoor-Rain/gt", "Outdoor-Rain/input", (r"_s\d+_a\d+$", "")),
    weather("raindrop", "RainDrop/gt", "RainDrop/data", ("_rain$", "_clean")),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _TABLE}
