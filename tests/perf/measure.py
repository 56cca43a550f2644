"""How the benchmarks measure: interleaved calls, medians, processes of their own."""

import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
THREADS = 1
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")

RECYCLE = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}
"""Makes glibc keep freed memory instead of asking the system for it again, as our jobs do."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(THREADS))
"""Read by libraries once, when they are loaded."""
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc return freed memory at once, so that a process is as large as its tensors."""


def machine():
    """Return in words where this runs."""
    if GPU:
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{platform.processor() or 'CPU'} {capability}, {THREADS} thread, torch {torch.__version__}"
    )


def seconds(call):
    """Return the CPU seconds of this thread, or the GPU's seconds, that one call takes."""
    if not GPU:
        start = time.process_time()
        call()
        return time.process_time() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def interleaved(calls, rounds):
    """Return the median seconds of each call; the rounds go through all of them in turn."""
    for call in calls.values():
        call()
    found = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    return {name: statistics.median(times[name] for times in found) for name in calls}


def grown_bytes(call):
    """Return by how much memory grows at most during a call; on a CPU that of this process."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins again at VmRSS
    before = resident_bytes("VmRSS")
    call()
    return resident_bytes("VmHWM") - before


def resident_bytes(field):
    """Return a field of this process's memory status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def elsewhere(function, environment, **options):
    """Return function(**options) of a process of its own; what goes in and out is JSON.

    The process manages its memory as PyTorch comes, unless the environment says otherwise.
    """
    code = (
        "import importlib, json, sys; module, name, options = sys.argv[1:]; "
        "function = getattr(importlib.import_module(module), name); "
        "print(json.dumps(function(**json.loads(options))))"
    )
    module = started_module() if function.__module__ == "__main__" else function.__module__
    command = [sys.executable, "-c", code, module, function.__name__, json.dumps(options)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    env = inherited | environment
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{function.__name__} of {options} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_recycled_memory(main):
    """Run a benchmark in a process of recycled memory and one thread, whatever this one was given.

    The number of threads is what libraries begin with; a benchmark may set it again.
    """
    wanted = RECYCLE | ONE_THREAD

    @functools.wraps(main)
    def again():
        if os.environ.items() >= wanted.items():
            main()
        else:
            command = [sys.executable, "-m", started_module(), *sys.argv[1:]]
            os.execve(sys.executable, command, os.environ | wanted)

    return again


def started_module():
    """Return the name of the benchmark that `python -m` started."""
    return f"tests.perf.{Path(sys.argv[0]).stem}"
