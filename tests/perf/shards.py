"""Images in shards against PNG: bytes, and CPU seconds to decode them or to cut crops from them.

    python -m tests.perf.shards --photos photos/ --quick

Mosaics of the photos, or of generated ones, of 2040 x 1356 and 3840 x 2160 pixels and one photo by
itself are written as PNG, as OpenCV comes, and as tiles. A visit is what training does with an
image: 16 crops of 128 pixels. Then the 2K mosaic again in other ways. Prints a table and, as its
last line, one flat JSON object.
"""

import argparse
import itertools
import json
from pathlib import Path

import cv2
import numpy as np

from pipelines import images, shards, tiles
from pipelines.images import Photo
from tests.perf.measure import in_recycled_memory, interleaved

SIZES = {"2k": (1356, 2040), "4k": (2160, 3840)}
CROPS = 16
CROP_PX = 128
AS_BUILT = (shards.TILE_PX, shards.MAX_OF_PNG, tiles.LEVEL)
VARIANTS = {
    "as built": AS_BUILT,
    **{
        f"tiles of {height} x {width}": ((height, width), *AS_BUILT[1:])
        for height, width in ((192, 192), (128, 1024), (256, 2048))
    },
    **{
        f"strips of {height} rows": ((height, 4096), *AS_BUILT[1:])
        for height in (64, 128, 256, 512)
    },
    **{f"up to {most} of PNG": (AS_BUILT[0], most, AS_BUILT[2]) for most in (0, 0.9, 1.0, 1.2)},
    "zstd level 3": (*AS_BUILT[:2], 3),
}


def photos(folder):
    """Return landscape photos of equal size: those of a folder, or smooth shapes with noise."""
    if folder:
        found = [images.decode(path.read_bytes()).rgb for path in sorted(folder.glob("*.png"))]
        upright = [p if p.shape[1] >= p.shape[0] else np.rot90(p) for p in found]
        height, width = (min(photo.shape[side] for photo in upright) for side in (0, 1))
        return [photo[:height, :width] for photo in upright]
    rng = np.random.default_rng(0)
    made = []
    for _ in range(8):
        coarse = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        shapes = cv2.resize(coarse, (768, 512), interpolation=cv2.INTER_CUBIC)
        shared = rng.normal(0, 4, (512, 768, 1)) + rng.normal(0, 1.5, (512, 768, 3))
        made.append(np.clip(shapes + shared, 0, 255).astype(np.uint8))
    return made


def mosaic(pieces, height, width):
    """Return pieces side by side until the size is full."""
    endless = itertools.cycle(pieces)
    piece_height, piece_width = pieces[0].shape[:2]
    rows = [
        np.hstack([next(endless) for _ in range(-(-width // piece_width))])
        for _ in range(-(-height // piece_height))
    ]
    return np.ascontiguousarray(np.vstack(rows)[:height, :width])


def visit(message, height, width):
    """Cut the crops of one visit."""
    rng, image = np.random.default_rng(0), shards.unpack("x", message)
    for _ in range(CROPS):
        top, left = rng.integers(height - CROP_PX + 1), rng.integers(width - CROP_PX + 1)
        image.crop(int(top), int(left), CROP_PX, CROP_PX)


def compare(label, pixels, rounds):
    """Print a line; return size, speed of decoding and speed of a visit, against PNG."""
    png = images.encode(Photo(pixels), ".png")
    data, [(offset, num_bytes)] = shards.bind([shards.pack("x", pixels)])
    message = data[offset : offset + num_bytes]
    assert np.array_equal(shards.unpack("x", message).whole(), pixels)
    encoded = np.frombuffer(png, np.uint8)
    calls = {
        "png": lambda: cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED),
        "whole": lambda: shards.unpack("x", message).whole(),
        "visit": lambda: visit(message, *pixels.shape[:2]),
    }
    took_s = interleaved(calls, rounds)
    size = num_bytes / len(png)
    decode, cut = (took_s["png"] / took_s[name] for name in ("whole", "visit"))
    times = " ".join(f"{took_s[name] * 1000:8.1f}" for name in calls)
    print(
        f"{label:22} {num_bytes / 1e6:7.2f} {size:6.3f} {times} {decode:7.2f} {cut:7.2f}",
        flush=True,
    )
    return size, decode, cut


def measure(pieces, rounds):
    """Print the images and return the ratios."""
    found = {}
    for name, size in SIZES.items():
        ratios = compare(f"mosaic {name}", mosaic(pieces, *size), rounds)
        keys = ("shard_size_vs_png", "shard_decode_speedup", "shard_visit_speedup")
        found |= {f"{key}_{name}": round(ratio, 3) for key, ratio in zip(keys, ratios, strict=True)}
    compare("one photo", np.ascontiguousarray(pieces[0]), rounds)
    compare("2k, grey", np.ascontiguousarray(mosaic(pieces, *SIZES["2k"])[:, :, 1:2]), rounds)
    deep = mosaic(pieces, *SIZES["2k"]).astype(np.uint16) * 257
    rng = np.random.default_rng(0)
    noisy = np.clip(deep + rng.normal(0, 100, deep.shape), 0, 65535).astype(np.uint16)
    found["shard_size_vs_png_16_bit"] = round(compare("2k, 16 bits", noisy, rounds)[0], 3)
    found["shard_size_vs_png"] = found["shard_size_vs_png_2k"]
    return found


def measure_variants(pieces, rounds):
    """Print what other tiles, other bounds and another level would cost."""
    pixels = mosaic(pieces, *SIZES["2k"])
    for label, (shards.TILE_PX, shards.MAX_OF_PNG, tiles.LEVEL) in VARIANTS.items():
        compare(label, pixels, rounds)
    shards.TILE_PX, shards.MAX_OF_PNG, tiles.LEVEL = AS_BUILT


@in_recycled_memory
def main():
    """Print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of PNG files; without it, made ones")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    pieces, rounds = photos(arguments.photos), 3 if arguments.quick else 9
    heads = "".join(f"{head:>9}" for head in ("PNG ms", "whole", "visit"))
    print(f"{'':22} {'MB':>7} {'of PNG':>6}{heads}  faster: whole, visit")
    found = measure(pieces, rounds)
    if not arguments.quick:
        measure_variants(pieces, rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
