"""What the paper claims, measured: rank, ablation, linear cost, memory at high resolution.

    laformer prepare bsd400/ --manifest bsd400.parquet
    python -m tests.perf.evidence --manifest bsd400.parquet --benchmark-data data/

Ten minutes of a quiet core; --quick takes less than one, --only some of the parts. Without
--benchmark-data, the folder that holds cbsd68/, nothing is trained: no ablation, and no maps.
Writes the plots and evidence.json into --out and the tables into the page beside that folder. What
was not measured this time is drawn from evidence.json as it was, and training that was stopped goes
on. Prints the tables and, as its last line, one flat JSON object.
"""

import argparse
import json
import re
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
import torch.nn.functional as F  # noqa: N812

from laformer import loop
from pipelines import images, storage
from pipelines.benchmarks import BENCHMARKS
from tests.perf import ablations, network, ranks
from tests.perf.measure import RECYCLE, ROOT, THREADS, elsewhere, in_recycled_memory, machine
from tests.perf.measure import interleaved as timed
from tests.perf.plots import drawing

PAGE = ROOT / "docs" / "evidence.md"
FULL = {
    "steps": 100,
    "seeds": 2,
    "variants": (
        "tiny",
        "linear attention, k = 0",
        "phi = ReLU",
        "no channel attention",
        "alternating",
        "sequential",
    ),
    "sides": (32, 64, 128, 256, 512, 1024),
    "rounds": 3,
    "images": ((512, 768), (1024, 1536), (1356, 2040), (2160, 3840)),
}
QUICK = {
    "steps": 10,
    "seeds": 1,
    "variants": ("tiny", "linear attention, k = 0"),
    "sides": (32, 64, 128),
    "rounds": 1,
    "images": ((256, 384),),
}
QUADRATIC_MOST = 128
"""Side of the largest image that softmax over all tokens is timed on."""
WHOLE_MOST = 1356 * 2040
"""Pixels of the largest image that is restored at once: more would need more than 4 GB."""


class Softmax(torch.nn.Module):
    """Attention of every token to every token, with the projections of the others."""

    def __init__(self):
        super().__init__()
        self.layer = network.OPERATORS["linear attention"]()

    def forward(self, x):
        q, k, v = (t.flatten(2).mT for t in self.layer.qkv(x).chunk(3, dim=1))
        mixed = F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape)
        return self.layer.project(mixed)


OPERATORS = network.OPERATORS | {"softmax over all": Softmax}


def chosen(names):
    return {
        name: variant
        for name, variant in ablations.VARIANTS.items()
        if any(name.startswith(wanted) for wanted in names)
    }


def training(arguments, options, found, keep):
    """Return PSNR of each variant and seed, and the maps of two networks of seed 0.

    Each is kept when it is there; what was stopped goes on.
    """
    variants, seeds = chosen(options["variants"]), range(options["seeds"])
    if found.get("steps") != options["steps"] or finished(found, len(variants) * len(seeds)):
        found = {"steps": options["steps"], "psnr_db": {}, "maps": {}}
    for seed, (name, variant) in product(seeds, variants.items()):
        scores = found["psnr_db"].setdefault(name, [])
        if len(scores) > seed:
            continue
        run = ablations.run_of(arguments.manifest, options["steps"], seed)
        state, _ = ablations.trained(variant, *run)
        with loop.averaged(state) as model:
            scores.append(round(ablations.psnr_db(model, arguments.benchmark_data), 2))
            if seed == 0 and name.startswith(("tiny", "linear attention, k = 0")):
                found["maps"][name] = mixing(model, arguments.benchmark_data)
        print(f"{name}, seed {seed}: {scores[-1]:.2f} dB", flush=True)
        keep(found)
    return found


def finished(found, num):
    return sum(map(len, found["psnr_db"].values())) >= num


def mixing(model, data):
    """Return the maps of every attention layer for the middle of a photo."""
    benchmark = BENCHMARKS["cbsd68-sigma25"]
    root = storage.join(storage.absolute(data), benchmark.folder)
    entry = storage.list_entries(root, images.SUFFIXES)[0]
    lq = benchmark.degrade(images.decode(storage.get(storage.join(root, entry.key))).rgb)
    lq = torch.from_numpy(lq[:256, :256]).permute(2, 0, 1)[None]
    modules = dict(model.named_modules())
    inputs = ranks.layers(model, lq)
    return {name: ranks.maps(modules[name], x) for name, x in inputs.items()}


def cost(options):
    """Return {operator: {side: seconds}} of one attention layer."""
    found = {name: {} for name in OPERATORS}
    layers = {name: make() for name, make in OPERATORS.items()}
    with torch.inference_mode():
        for side in options["sides"]:
            x = network.image(side, side, network.DIM).to(memory_format=torch.channels_last)
            calls = {
                name: partial(layer, x)
                for name, layer in layers.items()
                if name != "softmax over all" or side <= QUADRATIC_MOST
            }
            for name, value in timed(calls, options["rounds"]).items():
                found[name][str(side)] = float(f"{value:.3g}")
    return found


def memory(options):
    """Return [way, height, width, seconds, MiB] of one image through `tiny`."""
    rows = []
    for height, width in options["images"]:
        for way in ("whole", "stripes"):
            if way == "whole" and height * width > WHOLE_MOST:
                continue
            here = {"size": "tiny", "height": height, "width": width}
            taken, grown = elsewhere(network.restored_once, RECYCLE, way=way, **here)
            rows.append([way, height, width, round(taken, 2), round(grown / 2**20)])
            print(f"{way} {width} x {height}: {taken:.1f} s, {grown / 2**20:.0f} MiB", flush=True)
    return rows


def differences(scores):
    """Return {variant: differences from the first, seed by seed}."""
    first = next(iter(scores.values()))
    return {
        name: [round(a - b, 2) for a, b in zip(each, first, strict=True)]
        for name, each in scores.items()
    }


def draw(found, folder):
    """Write the plots of what is known."""
    if "training" in found:
        draw_maps(found["training"]["maps"], folder / "rank.svg")
        draw_ablation(found["training"]["psnr_db"], folder / "ablation.svg")
    if "cost" in found:
        draw_cost(found["cost"], folder / "cost.svg")
    if "memory" in found:
        draw_memory(found["memory"], folder / "memory.svg")


def draw_maps(found, target):
    full, plain = list(found.values())
    layer = next(iter(full))
    lines = {
        "softmax of the same queries and keys": full[layer]["softmax"],
        "linear attention of the same": full[layer]["linear"],
        "with the depthwise convolution (RELA)": full[layer]["RELA"],
        "a network trained without the convolution": plain[layer]["linear"],
    }
    with drawing(target) as axes:
        for label, each in lines.items():
            axes.plot(range(1, len(each[0]) + 1), [max(v, 1e-12) for v in each[0]], label=label)
        axes.set(yscale="log", ylim=(1e-7, 2), xlabel="singular value", ylabel="over the largest")
        axes.legend(loc="lower left", bbox_to_anchor=(0.07, 0))


def draw_ablation(scores, target):
    rows = list(differences(scores).items())[:0:-1]
    with drawing(target, height=3.2) as axes:
        for place, (_, each) in enumerate(rows):
            axes.barh(place, fmean(each), height=0.6, color="#2f7fd6", alpha=0.6)
            axes.plot(each, [place] * len(each), "o", color="#e07b1a")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.axvline(0, color="#808890", linewidth=1)
        axes.set_xlabel("dB beside `tiny` (RELA k = 5, ELU + 1, parallel); dots: seeds")


def draw_cost(found, target):
    with drawing(target) as axes:
        for name, times in found.items():
            pixels = [int(side) ** 2 for side in times]
            axes.plot(pixels, [1e6 * times[s] / int(s) ** 2 for s in times], "o-", label=name)
        axes.set(xscale="log", yscale="log", xlabel="pixels", ylabel="microseconds a pixel")
        axes.legend(fontsize=9)


def draw_memory(rows, target):
    with drawing(target, columns=2, height=3.2) as both:
        for axes, index, label in zip(both, (4, 3), ("MiB", "CPU seconds"), strict=True):
            for way in ("whole", "stripes"):
                points = [(row[1] * row[2] / 1e6, row[index]) for row in rows if row[0] == way]
                axes.plot(*zip(*points, strict=True), "o-", label=way)
            axes.set(xlabel="megapixels", ylabel=label, ylim=(0, None))
            axes.legend()


def tables(found):
    """Return {name: Markdown} of what is known."""
    made = {}
    if "training" in found:
        made["rank"] = rank_table(found["training"]["maps"])
        made["ablation"] = ablation_table(found["training"])
    if "cost" in found:
        made["cost"] = cost_table(found["cost"])
    if "memory" in found:
        made["memory"] = memory_table(found["memory"])
    said = dict(found["machine"])
    if "training" in found:
        seeds = max(map(len, found["training"]["psnr_db"].values()))
        said["ablation"] = f"{found['training']['steps']} steps, seeds: {seeds}. {said['ablation']}"
    return {name: f"{text}\n\n*{said[name]}*" for name, text in made.items()}


def rank_table(found):
    full, plain = list(found.values())
    lines = [
        "| attention layer | softmax | linear | RELA | trained without convolution |",
        "|---|---|---|---|---|",
    ]
    for name, each in full.items():
        cells = [each["softmax"], each["linear"], each["RELA"], plain[name]["linear"]]
        row = " | ".join(f"{rank}, {effective:.1f}" for _, rank, effective in cells)
        lines.append(f"| `{name}` | {row} |")
    return "\n".join(lines)


def ablation_table(found):
    lines = ["| variant | PSNR, dB | beside the first, dB |", "|---|---|---|"]
    for name, each in differences(found["psnr_db"]).items():
        scores = ", ".join(f"{score:.2f}" for score in found["psnr_db"][name])
        gain = ", ".join(f"{value:+.2f}" for value in each)
        lines.append(f"| {name} | {scores} | {gain} |")
    return "\n".join(lines)


def cost_table(found):
    sides = list(next(iter(found.values())))
    lines = [f"| ms by side | {' | '.join(sides)} |", "|---" * (len(sides) + 1) + "|"]
    for name, times in found.items():
        cells = [f"{1000 * times[side]:.3g}" if side in times else "" for side in sides]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def memory_table(rows):
    lines = ["| image | way | CPU s | MiB |", "|---|---|---|---|"]
    for way, height, width, seconds, mib in rows:
        lines.append(f"| {width} x {height} | {way} | {seconds} | {mib} |")
    return "\n".join(lines)


def insert(text, made):
    """Return the page with its tables replaced."""
    for name, table in made.items():
        marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{marks[0]}.*?{marks[1]}", re.DOTALL)
        replaced = f"{marks[0]}\n\n{table}\n\n{marks[1]}"
        text = pattern.sub(lambda _, whole=replaced: whole, text)
    return text


def ratios(found):
    """Return the claims as numbers."""
    numbers = {}
    if "training" in found:
        full = next(iter(found["training"]["maps"].values()))
        for name in ("softmax", "linear", "RELA"):
            numbers[f"rank_{name}"] = fmean(each[name][1] for each in full.values())
        gains = differences(found["training"]["psnr_db"])
        numbers["gain_db_of_the_convolution"] = -fmean(gains["linear attention, k = 0"])
    if "cost" in found:
        rela = found["cost"]["RELA k = 5"]
        sides = sorted(map(int, rela))
        pixels = (sides[-1] / sides[0]) ** 2
        numbers["rela_growth_over_pixels"] = rela[str(sides[-1])] / rela[str(sides[0])] / pixels
    if "memory" in found:
        largest = max(r[1] * r[2] for r in found["memory"] if r[0] == "whole")
        at = {r[0]: r for r in found["memory"] if r[1] * r[2] == largest}
        numbers["stripes_memory_ratio"] = at["stripes"][4] / at["whole"][4]
        numbers["stripes_time_ratio"] = at["stripes"][3] / at["whole"][3]
    return {name: round(value, 3) for name, value in numbers.items()}


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--manifest", help="of the photos that are trained on")
    parser.add_argument("--benchmark-data", help="folder that holds cbsd68/")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", nargs="+", choices=("training", "cost", "memory"))
    parser.add_argument("--out", type=Path, default=PAGE.with_suffix(""), help="folder of plots")
    return parser.parse_args()


@in_recycled_memory
def main():
    arguments = parsed()
    options = QUICK if arguments.quick else FULL
    torch.set_num_threads(THREADS)
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out / "evidence.json"
    found = json.loads(store.read_text()) if store.exists() else {"machine": {}}

    def keep(name, value):
        found[name] = value
        for table in ("rank", "ablation") if name == "training" else (name,):
            found["machine"][table] = machine()
        store.write_text(json.dumps(found) + "\n")

    for name in arguments.only or ("cost", "memory", "training"):
        if name == "cost":
            keep(name, cost(options))
        elif name == "memory":
            keep(name, memory(options))
        elif arguments.manifest and arguments.benchmark_data:
            known = found.get(name, {})
            keep(name, training(arguments, options, known, partial(keep, name)))
    draw(found, arguments.out)
    made = tables(found)
    print("\n\n".join(made.values()))
    page = arguments.out.with_suffix(".md")
    if page.exists():
        page.write_text(insert(page.read_text(), made))
    print(json.dumps(ratios(found)))


if __name__ == "__main__":
    main()
