"""LAformer beside softmax windows, Restormer's attention and Restormer; whole, stripes, tiles.

    python -m tests.perf.network [--quick]

Everything that is compared runs in turn in one run. On a CPU: seconds of one thread, medians, in
memory that is recycled (tests/perf/measure.py) unless a line says otherwise; memory is what a
process of its own grows by. On a GPU the same tables come with the floors that its data sheet sets.
The peers are written from their descriptions (tests/perf/peers.py); weights are random. Prints
tables and, as its last line, one flat JSON object; --quick takes smaller networks and images and
compiles none.
"""

import argparse
import gc
import json
from functools import partial

import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from laformer import attention
from laformer.attention import RELA
from laformer.config import SIZES
from laformer.cost import cost, cost_of
from laformer.model import LAformer, num_parameters
from laformer.stripes import restore_in_stripes
from tests.perf.measure import (
    DEVICE,
    GPU,
    RECYCLE,
    THREADS,
    elsewhere,
    grown_bytes,
    in_recycled_memory,
    interleaved,
    machine,
    seconds,
)
from tests.perf.peers import Restormer, TransposedAttention, WindowAttention
from tests.perf.sizes import equal_parameters

DIM = 48
TILE, OVERLAP = 256, 32
MIB = 2**20
H200_FLOPS, H200_BYTES = 989e12, 4.8e12
"""Per second: bf16 without sparsity, and memory; of the data sheet."""
RESTORMERS = {"base": {}, "tiny": {"dim": 12, "blocks": (1, 1, 1, 1), "refinement": 1}}
"""As published, and one that is small enough for large images."""
QUICK = {
    "operators": (128,),
    "networks": {"tiny": (128,)},
    "stripes": (("tiny", 384, 384),),
    "growth": (128, 256),
    "rounds": 1,
}
FULL = {
    "operators": (128, 256, 512, 1024, 2048),
    "networks": {"tiny": (128, 256, 512, 1024, 2048), "base": (256,)},
    "stripes": (("tiny", 1356, 2040), ("small", 1356, 2040)),
    "growth": (256, 512, 1024, 2048),
    "rounds": 3,
}


def awake(model):
    """Return a network whose blocks do something, where and how images are restored."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return model.eval().to(DEVICE)


def ours(config):
    return awake(LAformer(config)).to(memory_format=torch.channels_last)


def image(height, width, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, height, width, generator=generator).to(DEVICE)


OPERATORS = {
    "RELA k = 5": lambda: RELA(DIM, head_dim=DIM, phi="elu", kernel=5),
    "linear attention": lambda: RELA(DIM, head_dim=DIM, phi="elu", kernel=0),
    "windows of 8": lambda: WindowAttention(DIM, 8, DIM),
    "windows of 16": lambda: WindowAttention(DIM, 16, DIM),
    "transposed (Restormer)": lambda: TransposedAttention(DIM, 1),
}


def operator_bytes(name, side):
    """Return by how much this process grows for one attention layer."""
    torch.set_num_threads(THREADS)
    layer = OPERATORS[name]().to(DEVICE)
    with torch.inference_mode():
        layer(image(32, 32, DIM).to(memory_format=torch.channels_last))
        x = image(side, side, DIM).to(memory_format=torch.channels_last)
        return grown_bytes(lambda: layer(x))


def operators(sides, rounds):
    """Time one attention layer with its projections, by resolution."""
    print(f"\nOne attention layer, {DIM} channels, float32: ms and MiB by side")
    print(f"{'':24}" + "".join(f"{side:>18}" for side in sides))
    layers = {name: layer().to(DEVICE) for name, layer in OPERATORS.items()}
    times = {}
    for side in sides:
        x = image(side, side, DIM).to(memory_format=torch.channels_last)
        calls = {name: partial(layer, x) for name, layer in layers.items()}
        times[side] = interleaved(calls, rounds)
    for name in layers:
        print(f"{name:24}", end="")
        for side in sides:
            grown = elsewhere(operator_bytes, {}, name=name, side=side)
            print(f"{1000 * times[side][name]:9.0f} {grown / MIB:8.0f}", end="", flush=True)
        print()


def token_parts(rounds):
    """Time linear attention over 1024 x 1024 tokens in parts that fit caches, and at once."""
    side = 1024
    q, k, v = (image(side, side, DIM).flatten(2).mT.unsqueeze(1).contiguous() for _ in "qkv")

    def attend():
        return attention.attend(q, attention.summarise(k, v, "elu"), "elu")

    def at_once():
        parts, attention.TOKENS_AT_ONCE = attention.TOKENS_AT_ONCE, side * side
        try:
            return attend()
        finally:
            attention.TOKENS_AT_ONCE = parts

    times = interleaved({"parts": attend, "at once": at_once}, rounds)
    moved = 4 * q.numel() * q.element_size()
    return times["at once"], times["parts"], moved


def token_parts_seconds(rounds):
    """Return seconds at once and in parts, in a process of its own."""
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        return token_parts(rounds)


def pair(size):
    """Return Restormer and a LAformer of equal parameters."""
    peer = awake(Restormer(**RESTORMERS[size]))
    return peer, ours(equal_parameters(SIZES[size], num_parameters(peer)))


def network_bytes(index, size, side):
    """Return by how much this process grows for one image through one of a pair."""
    torch.set_num_threads(THREADS)
    model = pair(size)[index]
    with torch.inference_mode():
        model(image(64, 64))
        x = image(side, side)
        return grown_bytes(lambda: model(x))


def fastest(model):
    """Return ours compiled, in bfloat16 where that is native, and its type."""
    native = GPU or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    dtype = torch.bfloat16 if native else torch.float32
    return torch.compile(model.to(dtype), dynamic=False), dtype


def networks(size, sides, rounds, *, compiling):
    """Time networks of equal parameters; return the seconds at the last side, ours last."""
    peer, model = pair(size)
    tuned = awake(Restormer(**RESTORMERS[size])).to(memory_format=torch.channels_last)
    with FakeTensorMode():
        theirs = cost_of(Restormer(**RESTORMERS[size]), torch.empty(1, 3, 256, 256))
    found = cost(model.config)
    print(
        f"\nWhole networks of {found.parameters / 1e6:.2f} M parameters (expansion "
        f"{model.config.expansion:.2f}) and {theirs.parameters / 1e6:.2f} M (Restormer);\n"
        f"GMACs at 256 x 256 with weights + between features: {found.weight_macs / 1e9:.1f} + "
        f"{found.attention_macs / 1e9:.1f} and {theirs.weight_macs / 1e9:.1f} + "
        f"{theirs.attention_macs / 1e9:.1f}; s and MiB by side"
    )
    for side in sides:
        x = image(side, side)
        calls = {
            "Restormer": partial(peer, x),
            "Restormer, channels_last": partial(tuned, x),
            "LAformer": partial(model, x),
        }
        if compiling:
            fast, dtype = fastest(pair(size)[1])
            calls[f"LAformer, compiled, {str(dtype)[6:]}"] = partial(fast, x)
        times = interleaved(calls, rounds)
        grown = [
            elsewhere(network_bytes, {}, index=index, size=size, side=side) / MIB
            for index in range(2)
        ]
        memory = {"Restormer": grown[0], "LAformer": grown[1]}
        for label, value in times.items():
            floor = 2 * (found.weight_macs + found.attention_macs) * (side / 256) ** 2 / H200_FLOPS
            note = f"   floor {1000 * floor:.2f} ms" if GPU else ""
            taken = f"{memory[label]:7.0f}" if label in memory else ""
            speed = times["Restormer"] / value
            print(f"{side:5} {label:30} {value:8.3f} {speed:5.2f}x {taken}{note}", flush=True)
    return list(times.values())


def in_tiles(model, lq):
    """Restore in overlapping tiles, the way of the field: each pixel from one tile's middle."""
    out = torch.empty_like(lq)
    height, width = lq.shape[2:]
    step = TILE - 2 * OVERLAP
    for top in range(0, height, step):
        for left in range(0, width, step):
            above, before = max(0, top - OVERLAP), max(0, left - OVERLAP)
            tile = model(lq[:, :, above : top + step + OVERLAP, before : left + step + OVERLAP])
            middle = tile[:, :, top - above :, left - before :][:, :, :step, :step]
            out[:, :, top : top + step, left : left + step] = middle
    return out


WAYS = {
    "whole": lambda model, lq: model(lq),
    "stripes": restore_in_stripes,
    "tiles": in_tiles,
}


def restored_once(way, size, height, width):
    """Return seconds and bytes of one image in a process of its own, and pixels to compare."""
    torch.set_num_threads(THREADS)
    model = ours(SIZES[size])
    with torch.inference_mode():
        WAYS[way](model, image(64, 64))
        lq = image(height, width)
        gc.collect()
        taken = []
        grown = grown_bytes(lambda: taken.append(seconds(lambda: WAYS[way](model, lq))))
    return taken[0], grown


def differences(size, height, width):
    """Return how far stripes and tiles are from the whole image at most."""
    torch.set_num_threads(THREADS)
    model, lq = ours(SIZES[size]), image(height, width)
    with torch.inference_mode():
        whole = model(lq)
        scale = float(whole.abs().max().clamp(min=1))
        others = {way: WAYS[way](model, lq) for way in WAYS if way != "whole"}
        return {way: float((other - whole).abs().max()) / scale for way, other in others.items()}


def stripes(images):
    """Compare whole, stripes and tiles; the worst ratios of stripes to whole."""
    print(f"\nOne image, float32: s and MiB; tiles of {TILE} that overlap by {OVERLAP}")
    worst = {"time": 0.0, "recycled": 0.0, "memory": 0.0, "difference": 0.0}
    for size, height, width in images:
        here = {"size": size, "height": height, "width": width}
        far = elsewhere(differences, {}, **here)
        found = {}
        for label, environment in (("", {}), ("recycled", RECYCLE)):
            for way in WAYS:
                found[label, way] = elsewhere(restored_once, environment, way=way, **here)
        for (label, way), (time_s, grown) in found.items():
            ratio = [a / b for a, b in zip((time_s, grown), found[label, "whole"], strict=True)]
            print(
                f"{size:5} {width:4} x {height:<4} {way:7} {label or 'as PyTorch comes':16} "
                f"{time_s:7.2f} ({ratio[0]:.2f}) {grown / MIB:7.0f} ({ratio[1]:.2f})  "
                f"largest difference {far.get(way, 0.0):.1e}",
                flush=True,
            )
        plain, recycled = found["", "whole"], found["recycled", "whole"]
        ratios = {
            "time": found["", "stripes"][0] / plain[0],
            "recycled": found["recycled", "stripes"][0] / recycled[0],
            "memory": found["", "stripes"][1] / plain[1],
            "difference": far["stripes"],
        }
        worst = {key: max(worst[key], ratios[key]) for key in worst}
    return worst


def growth(sides, rounds):
    """Return the largest time per pixel over that of the smallest image."""
    print("\n`tiny` by side, float32: microseconds per pixel")
    model = ours(SIZES["tiny"])
    found = {}
    for way in ("whole", "stripes"):
        calls = {side: partial(WAYS[way], model, image(side, side)) for side in sides}
        times = interleaved(calls, rounds)
        found[way] = {side: 1e6 * times[side] / side**2 for side in sides}
        cells = "  ".join(f"{side}: {value:.2f}" for side, value in found[way].items())
        print(f"{way:8} {cells}", flush=True)
    return {way: max(each.values()) / each[sides[0]] for way, each in found.items()}


@in_recycled_memory
def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="about a minute, smaller networks")
    quick = parser.parse_args().quick
    options = QUICK if quick else FULL
    rounds = options["rounds"]
    torch.set_num_threads(THREADS)
    print(machine())
    # Stripes first: whole images need the memory that this process keeps after the rest.
    worst = stripes(options["stripes"])
    with torch.inference_mode():
        operators(options["operators"], rounds)
        at_once, parts, moved = elsewhere(token_parts_seconds, {}, rounds=rounds)
        recycled = token_parts(rounds)
        floor = f", floor {1000 * moved / H200_BYTES:.2f} ms" if GPU else ""
        print(
            f"\nLinear attention over 1024 x 1024 tokens, at once / in parts: {at_once:.3f} / "
            f"{parts:.3f} s as PyTorch comes, {recycled[0]:.3f} / {recycled[1]:.3f} s in recycled "
            f"memory{floor}"
        )
        for size, sides in options["networks"].items():
            times = networks(size, sides, rounds, compiling=size == "base")
        peer, _, plain = times[:3]
        grown = growth(options["growth"], rounds)
    result = {
        "speedup_vs_restormer_fp32": peer / plain,
        "speedup_vs_restormer_best": peer / min(times[2:]),
        "rela_chunked_speedup_1024": at_once / parts,
        "rela_chunked_speedup_1024_recycled": recycled[0] / recycled[1],
        "stripes_time_ratio": worst["time"],
        "stripes_time_ratio_recycled": worst["recycled"],
        "stripes_memory_ratio": worst["memory"],
        "stripes_max_difference": worst["difference"],
        "per_pixel_time_growth": grown["stripes"],
        "per_pixel_time_growth_whole": grown["whole"],
    }
    print(json.dumps({key: float(f"{value:.3g}") for key, value in result.items()}))


if __name__ == "__main__":
    main()
