"""Predictions hold, and budgets are kept."""

import dataclasses
import sys

import pytest
import torch

from laformer import memory
from laformer.config import SIZES
from laformer.memory import Plan, Size, plan_stripes
from tests.perf.stripes import peak_bytes

SIDE = {"height": 512, "width": 512}
SIZE = Size(config=SIZES["tiny"], dtype=torch.float32, **SIDE)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes glibc return freed memory at once, so that a process is as large as its tensors."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("stripe_rows", [None, 32])
def test_tensors_take_what_is_predicted(stripe_rows):
    peak = peak_bytes(environment=GIVES_BACK, stripe_rows=stripe_rows, **SIDE)
    striped = SIZE.map_bytes() + SIZE.stripe_bytes(stripe_rows or 0)
    predicted = striped if stripe_rows else SIZE.whole_bytes()
    assert peak / 1.3 < predicted < peak * 1.3


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("divisor", "maps"), [(3, "device"), (8, "files")])
def test_the_process_stays_within_the_budget(divisor, maps):
    budget = SIZE.whole_bytes() // divisor
    assert plan_stripes(SIZE, CPU, budget, None).maps == maps
    assert peak_bytes(memory_bytes=budget, **SIDE) < budget


def test_more_memory_makes_higher_stripes_until_they_are_as_high_as_is_useful():
    budgets = [SIZE.whole_bytes() // divisor for divisor in (4, 3, 2, 1)]
    rows = [plan_stripes(SIZE, CPU, budget, None).stripe_rows for budget in [*budgets, None]]
    assert rows == sorted(rows)
    assert rows[-1] < SIZE.height


def test_maps_leave_a_gpu_for_the_host_and_the_host_for_files(monkeypatch):
    budget = SIZE.stripe_bytes(8)
    monkeypatch.setattr(memory, "free_bytes", lambda: 4 * SIZE.map_bytes())
    assert plan_stripes(SIZE, CUDA, budget, None) == Plan(8, "host")
    monkeypatch.setattr(memory, "free_bytes", SIZE.map_bytes)
    assert plan_stripes(SIZE, CUDA, budget, None) == Plan(8, "files")


def test_super_resolution_counts_its_larger_result():
    larger = dataclasses.replace(SIZE, config=dataclasses.replace(SIZE.config, scale=4))
    assert larger.result_bytes() == 16 * SIZE.result_bytes()
    assert larger.whole_bytes() - SIZE.whole_bytes() == 15 * SIZE.result_bytes()
