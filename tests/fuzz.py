"""Damaged files by the million: what reads them answers or refuses, and never takes the machine.

    python -m tests.fuzz --inputs 1000000 --processes 2

Small images of every format, manifests, receipts' Parquet, tiles, weights and job files are cut,
overwritten, spliced and stretched at random. Anything but an answer or an error of ours is a
finding, and so is a process that dies or outgrows its memory; each finding is written to
--findings with its seed. The last line is JSON.
"""

import argparse
import io
import json
import multiprocessing
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa

MEMORY_BYTES = 2 * 2**30
"""Address space that a process may take beyond what it has when it begins."""
MAX_PIXELS = 2**22
CHUNK = 2000
"""Inputs between two words of a process: what a crash can hide."""
LENGTHS = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
"""Numbers at which sizes and offsets go wrong."""


def main():
    arguments = parsed()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    share = -(-arguments.inputs // arguments.processes)
    total, findings = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [
            Hunt(context, Path(scratch), arguments.seed + number, share)
            for number in range(arguments.processes)
        ]
        for job in jobs:
            counts, found = job.finish()
            findings += found
            for name, (answered, refused) in counts.items():
                before = total.get(name, (0, 0))
                total[name] = (before[0] + answered, before[1] + refused)
    for name, data, error in findings:
        path = arguments.findings / f"{name}-{len(data)}-{abs(hash(data)):x}"
        path.write_bytes(data)
        print(f"{name}: {error}: {path}")
    print(f"{'':<16}{'answered':>10}{'refused':>10}")
    for name, (answered, refused) in sorted(total.items()):
        print(f"{name:<16}{answered:>10}{refused:>10}")
    inputs = sum(map(sum, total.values()))
    print(json.dumps({"inputs": inputs, "findings": len(findings)}))
    return 1 if findings else 0


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    return parser.parse_args()


class Hunt:
    """A process that tries inputs, and another in its place where it dies."""

    def __init__(self, context, scratch, seed, num):
        self.context, self.seed, self.num = context, seed, num
        self.note = scratch / f"{seed}.input"
        self.start = 0
        self.counts, self.findings = {}, []
        self._spawn()

    def _spawn(self):
        self.receiver, sender = self.context.Pipe(duplex=False)
        work = (sender, self.note, self.seed, self.start, self.num)
        self.process = self.context.Process(target=hunt, args=work, daemon=True)
        self.process.start()
        sender.close()

    def finish(self):
        while True:
            try:
                self.start, counts, found = self.receiver.recv()
            except EOFError:
                self.process.join()
                if self.start >= self.num:
                    return self.counts, self.findings
                # The input at which it died was written down before it was tried.
                name, _, data = self.note.read_bytes().partition(b"\n")
                died = f"the process ended with {self.process.exitcode}"
                self.findings.append((name.decode(), data, died))
                self.start += CHUNK
                if self.start >= self.num:
                    return self.counts, self.findings
                self._spawn()
                continue
            self.findings += found
            for name, (answered, refused) in counts.items():
                before = self.counts.get(name, (0, 0))
                self.counts[name] = (before[0] + answered, before[1] + refused)


def hunt(sender, note, seed, start, num):
    """Try inputs [start, num) of a sequence, telling the counts after every chunk."""
    warnings.simplefilter("ignore")
    sys.stderr = io.StringIO()
    targets = readers()
    seeds = {name: originals() for name, (_, originals) in targets.items()}
    names = sorted(seeds)
    with Path("/proc/self/statm").open() as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, resource.RLIM_INFINITY))
    with note.open("w+b") as file:
        for first in range(start, num, CHUNK):
            counts, findings = dict.fromkeys(names, (0, 0)), []
            for index in range(first, min(first + CHUNK, num)):
                name = names[index % len(names)]
                rng = np.random.default_rng([seed, index])
                data = damaged(seeds[name], rng)
                file.seek(0)
                file.truncate()
                file.write(name.encode() + b"\n" + data)
                file.flush()
                try:
                    answered = tried(targets[name][0], data)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                    findings.append((name, data, f"{type(error).__name__}: {error}"))
                else:
                    before = counts[name]
                    counts[name] = (before[0] + answered, before[1] + (not answered))
            sender.send((first + CHUNK, counts, findings))
    sender.close()


def tried(read, data):
    """Tell whether data was read; an error of ours is a refusal, any other goes on."""
    from laformer.errors import ModelError
    from pipelines.errors import DataError

    try:
        read(data)
    except (DataError, ModelError):
        return False
    return True


def damaged(originals, rng):
    """Return one of the originals after one to four acts of damage."""
    data = bytearray(originals[rng.integers(len(originals))])
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(data) + 1))
        match int(rng.integers(7)):
            case 0:
                del data[place:]
            case 1:
                data[place : place + 1] = rng.bytes(1)
            case 2:
                width = int(rng.choice((1, 2, 4)))
                number = int(rng.choice(LENGTHS)) & ((1 << 8 * width) - 1)
                order = "big" if rng.integers(2) else "little"
                data[place : place + width] = number.to_bytes(width, order)
            case 3:
                data[place:place] = rng.bytes(int(rng.integers(1, 64)))
            case 4:
                del data[place : place + int(rng.integers(1, 64))]
            case 5:
                other = originals[rng.integers(len(originals))]
                data[place:] = other[min(place, len(other)) :]
            case 6:
                length = int(rng.integers(1, 64))
                data[place:place] = data[place : place + length] * int(rng.integers(1, 8))
    return bytes(data)


def readers():
    """Return by name what reads data, and a function that gives whole originals."""
    from pipelines import images, shards
    from pipelines.regions import Region

    def decode(data):
        images.decode(data, max_pixels=MAX_PIXELS)

    def decode_srgb(data):
        images.decode(data, "srgb", max_pixels=MAX_PIXELS)

    def region(data):
        images.decode_region(data, Region(1, 1, 4, 4), max_pixels=MAX_PIXELS)

    def unpack(data):
        tiles = shards.unpack("key", data)
        tiles.crop(0, 0, *tiles.shape[:2])

    def manifest(data):
        found = read_file(data, ".parquet", "pipelines.manifest", "read")
        found.digest()
        found.usable("train").to_pylist()

    def weights(data):
        read_file(data, ".safetensors", "laformer.header", "config_of")

    return {
        "image": (decode, photos),
        "image srgb": (decode_srgb, photos),
        "image region": (region, photos),
        "tiles": (unpack, packed),
        "manifest": (manifest, manifests),
        "weights": (weights, released),
    }


def read_file(data, suffix, module, function):
    """Return what is read of data through a file, as what takes a path wants it."""
    import importlib

    with tempfile.NamedTemporaryFile(suffix=suffix, dir="/dev/shm") as file:
        file.write(data)
        file.flush()
        path = file.name if "manifest" in module else Path(file.name)
        return getattr(importlib.import_module(module), function)(path)


def photos():
    """Return small images of every format: deep, grey, with alpha, turned, with a profile."""
    from PIL import Image, ImageCms

    from pipelines import images

    rng = np.random.default_rng(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = []
    for suffix in images.SUFFIXES:
        for dtype in (np.uint8, np.uint16):
            for channels in (1, 3):
                pixels = rng.integers(0, np.iinfo(dtype).max + 1, (13, 17, channels), dtype)
                for alpha in (None, pixels[:, :, 0]):
                    photo = images.Photo(pixels=pixels, alpha=alpha, profile=profile)
                    try:
                        found.append(images.encode(photo, suffix))
                    except images.ImageError:
                        continue
    drawing = Image.fromarray(rng.integers(0, 256, (13, 17, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, kind, options in (
        (drawing.convert("P"), "PNG", {"transparency": 3}),
        (drawing.convert("1"), "PNG", {}),
        (drawing, "PNG", {"exif": exif}),
        (drawing, "JPEG", {"exif": exif, "progressive": True}),
        (drawing.convert("CMYK"), "JPEG", {"icc_profile": profile}),
        (drawing, "TIFF", {"compression": "tiff_lzw"}),
        (drawing, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (drawing.convert("1"), "TIFF", {"compression": "group4"}),
        (drawing.convert("CMYK"), "TIFF", {"compression": "packbits"}),
        (drawing, "TIFF", {"compression": "jpeg"}),
        (drawing, "WEBP", {"exif": exif, "lossless": False}),
        (drawing.convert("L"), "BMP", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def packed():
    """Return tiles as a shard holds them."""
    from pipelines import shards

    rng = np.random.default_rng(0)
    found = []
    for dtype, channels in ((np.uint8, 3), (np.uint16, 1), (np.uint8, 1)):
        pixels = rng.integers(0, 200, (33, 47, channels)).astype(dtype)
        data, [(offset, num_bytes)] = shards.bind([shards.pack("key", pixels)])
        found.append(data[offset : offset + num_bytes])
    return found


def manifests():
    """Return manifests: empty, of a few rows, of pairs."""
    from pipelines import manifest

    found = []
    with tempfile.TemporaryDirectory() as scratch:
        uri = f"{scratch}/a.parquet"
        for num in (0, 1, 40):
            keys = pa.array([f"a/{number}.png" for number in range(num)], pa.string())
            table = manifest.complete(num, {"key": keys})
            for lq_roots in ((), ("/lq",)):
                manifest.write(manifest.Manifest("/photos", table, lq_roots), uri)
                found.append(Path(uri).read_bytes())
    return found


def released():
    """Return weights that say their network."""
    import torch
    from safetensors.torch import save

    from laformer.header import stamped

    tensors = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)}
    return [save(tensors), stamped(save(tensors), {"dim": 8, "blocks": [1, 2]})]


if __name__ == "__main__":
    sys.exit(main())
