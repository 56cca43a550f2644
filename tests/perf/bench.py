"""All measurements in one go, and one page of their ratios against the goals.

    make bench                                a few minutes: one short round of each
    make bench ARGS="--full --photos FOLDER"  the complete programs: about an hour on two cores
    make bench ARGS="--only network degrade"  some of them

Each program runs in a process of its own, one after another; its last line is its result. The page,
runs/bench.html unless --out names another, has the ratios, the machine and what else it was doing,
and what every program printed. A program that fails is said there, and the exit code is 1. Prints,
as its last line, one flat JSON object of all results.
"""

import argparse
import html
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.perf.measure import ROOT
from tests.perf.plots import drawing

PROGRAMS = ("degrade", "shards", "scale", "network", "stream", "restore", "train", "tune")
WITH_PHOTOS = ("shards", "stream", "train")
"""Those that take --photos, a folder."""
PACKAGES = ("torch", "ray", "mlflow", "numpy", "opencv-python-headless", "pyarrow")


class Goal(NamedTuple):
    """What a number should reach."""

    value: float
    least: bool
    """Whether more is better."""
    text: str


GOALS = {
    "degrade": {
        "bicubic_x4_128_speedup": Goal(40, True, "bicubic x4, 128 px, beside row by row"),
        "bicubic_x4_256_speedup": Goal(25, True, "bicubic x4, 256 px, beside row by row"),
    },
    "shards": {
        "shard_size_vs_png": Goal(1.1, False, "size of tiles over PNG"),
        "shard_decode_speedup_2k": Goal(6, True, "decoding tiles beside PNG, 2K"),
    },
    "stream": {
        "cpu_eff_direct": Goal(0.9, True, "stream from PNG beside a bare loop"),
        "cpu_eff_shards": Goal(0.7, True, "stream from tiles beside a bare loop"),
        "crops_per_cpu_s_vs_basicsr_direct": Goal(10, True, "from PNG beside BasicSR's habits"),
        "crops_per_cpu_s_vs_basicsr_shards": Goal(60, True, "from tiles beside BasicSR's habits"),
        "rows_lost": Goal(0, False, "rows lost or out of place"),
    },
    "network": {
        "speedup_vs_restormer_best": Goal(4, True, "speed beside Restormer, our fastest way"),
        "stripes_time_ratio": Goal(1, False, "time of stripes over the whole image"),
        "stripes_memory_ratio": Goal(0.2, False, "memory of stripes over the whole image"),
        "stripes_max_difference": Goal(1e-5, False, "difference of stripes from the whole"),
    },
    "train": {
        "steps_vs_bare_loop": Goal(0.9, True, "training beside a bare loop"),
        "data_wait_fraction": Goal(0.05, False, "share of time waiting for data"),
        "checkpoint_time_fraction": Goal(0.02, False, "share of time for checkpoints"),
    },
    "restore": {
        "throughput_vs_bare_loop": Goal(0.95, True, "restoring beside a bare loop"),
    },
    "tune": {
        "asha_step_fraction": Goal(0.4, False, "share of all steps that a search takes"),
        "gain_db": Goal(0, True, "dB over the recipe, on other photos"),
    },
}


@dataclass(frozen=True)
class Run:
    """What one program did."""

    name: str
    code: int
    seconds: float
    load: float
    """Of the machine before it began, over one minute."""
    text: str
    numbers: dict = field(default_factory=dict)


def command(name, options):
    words = [sys.executable, "-m", f"tests.perf.{name}"]
    words += [] if options.full else ["--quick"]
    if options.photos and name in WITH_PHOTOS:
        words += ["--photos", str(options.photos.resolve())]
    return words


def run(name, options):
    """Run one program and read its last line."""
    load, began = os.getloadavg()[0], time.perf_counter()
    done = subprocess.run(
        command(name, options), cwd=ROOT, capture_output=True, text=True, check=False
    )
    text = done.stdout + (done.stderr[-4000:] if done.returncode else "")
    return Run(
        name=name,
        code=done.returncode,
        seconds=time.perf_counter() - began,
        load=load,
        text=text,
        numbers=last_object(done.stdout),
    )


def last_object(text):
    """Return the JSON object of the last line, or an empty one."""
    lines = text.strip().splitlines() or [""]
    try:
        found = json.loads(lines[-1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def machine():
    """Return [what, which] of the machine and what it runs."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((li.split(": ", 1)[1] for li in lines if li.startswith("model name")), cpu)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        ("CPU", cpu),
        ("cores", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}"),
        ("threads", "one a process in degrade, shards and network; two processes or threads else"),
        ("memory", f"{memory:.0f} GiB"),
        ("GPU", gpu()),
        ("system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}"),
        ("versions", versions),
    ]


def gpu():
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def held(goal, value):
    return value >= goal.value if goal.least else value <= goal.value


def distance(goal, value):
    """Return how far a number is on the good side of its goal, as a power of two; at most 3."""
    if value == goal.value:
        return 0.0
    if min(value, goal.value) <= 0:
        return math.copysign(3, value - goal.value if goal.least else goal.value - value)
    times = math.log2(value / goal.value)
    return max(-3.0, min(3.0, times if goal.least else -times))


def rows(runs):
    """Return [program, goal, value] for what has a goal and was measured."""
    return [
        (run.name, goal, run.numbers[key])
        for run in runs
        for key, goal in GOALS.get(run.name, {}).items()
        if isinstance(run.numbers.get(key), (int, float))
    ]


def missing(runs):
    """Return the goals of programs that ran whose number their last line does not have."""
    return [
        f"{run.name}: {goal.text}"
        for run in runs
        for key, goal in GOALS.get(run.name, {}).items()
        if key not in run.numbers
    ]


def plot(found):
    """Return SVG: a bar for each ratio, to the right where it is better than its goal."""
    target = io.StringIO()
    with drawing(target, width=9, height=0.6 + 0.32 * len(found)) as axes:
        places = range(len(found))[::-1]
        for place, (_, goal, value) in zip(places, found, strict=True):
            colour = "#2a9d6f" if held(goal, value) else "#c94f5a"
            axes.barh(place, distance(goal, value), color=colour, height=0.6)
        axes.set_yticks(list(places), [goal.text for _, goal, _ in found])
        axes.set_xticks([-3, -2, -1, 0, 1, 2, 3], ["1/8", "1/4", "1/2", "goal", "2x", "4x", "8x"])
        axes.set_xlim(-3.1, 3.1)
        axes.axvline(0, color="#808890")
    text = target.getvalue()
    return text[text.index("<svg") :]


def page(runs, options):
    """Return the page: one file that needs no other."""
    found = rows(runs)
    kind = "complete programs" if options.full else "one short round of each (--quick)"
    facts = "".join(f"<tr><th>{a}</th><td>{html.escape(b)}</td></tr>" for a, b in machine())
    lines = "".join(
        f"<tr><td>{name}</td><td>{goal.text}</td><td>{value:.4g}</td>"
        f"<td>{'at least' if goal.least else 'at most'} {goal.value:g}</td>"
        f"<td>{'yes' if held(goal, value) else 'no'}</td></tr>"
        for name, goal, value in found
    )
    parts = "".join(
        f"<details{' open' if run.code else ''}><summary>{run.name}: "
        f"{'failed' if run.code else 'done'} in {run.seconds:.0f} s, load {run.load:.1f} before it"
        f"</summary><pre>{html.escape(run.text)}</pre></details>"
        for run in runs
    )
    absent = "".join(f"<p>Not measured: {each}</p>" for each in missing(runs))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Measurements</title>
<meta name="viewport" content="width=device-width"><style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
padding: 0 1rem }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }}
td, th {{ padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid #8884;
vertical-align: top }}
svg {{ max-width: 100%; height: auto }} pre {{ overflow-x: auto; font-size: 12px }}
</style><h1>Measurements</h1>
<p>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {kind}. To the right of the middle is better than the
goal, to the left worse. Ratios are of one run on one machine; a short round on a busy machine is
an indication.</p>
{plot(found) if found else ""}
<table><tr><th>program</th><th>what</th><th>measured</th><th>goal</th><th>held</th></tr>
{lines}</table>{absent}<h2>The machine</h2><table>{facts}</table>
<h2>What each printed</h2>{parts}</html>
"""


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--full", action="store_true", help="the complete programs, about an hour")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--photos", type=Path, help="folder of photos; their own otherwise")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench.html")
    return parser.parse_args()


def main():
    """Run all, write the page after each."""
    options, runs = parsed(), []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        print(f"{' '.join(command(name, options)[1:])} …", flush=True)
        runs.append(run(name, options))
        print(f"{name}: {'failed' if runs[-1].code else 'done'} in {runs[-1].seconds:.0f} s")
        options.out.write_text(page(runs, options))
    print(f"the page: {options.out}")
    print(json.dumps({f"{each.name}.{k}": v for each in runs for k, v in each.numbers.items()}))
    return int(any(each.code for each in runs))


if __name__ == "__main__":
    sys.exit(main())
