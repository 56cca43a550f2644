"""Predictions hold, and budgets are kept."""

import dataclasses
import sys

import pytest
import torch

from laformer import memory
from laformer.config import SIZES
from laformer.memory import Plan, Size, plan_stripes
from laformer.stripes import restore_in_stripes
from tests.perf.measure import GIVE_BACK, THREADS, elsewhere, grown_bytes
from tests.perf.network import image, ours

SIDE = {"height": 512, "width": 512}
SIZE = Size(config=SIZES["tiny"], dtype=torch.float32, **SIDE)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")


def peak(**options):
    """Return by how much this process grows for one image, in stripes where there are options."""
    torch.set_num_threads(THREADS)
    model = ours(SIZES["tiny"])

    def restore(lq):
        return restore_in_stripes(model, lq, **options) if options else model(lq)

    with torch.inference_mode():
        model(image(64, 64))
        restore_in_stripes(model, image(64, 64))
        lq = image(**SIDE)
        return grown_bytes(lambda: restore(lq))


@linux
@pytest.mark.slow
@pytest.mark.parametrize("stripe_rows", [None, 32])
def test_tensors_take_what_is_predicted(stripe_rows):
    options = {"stripe_rows": stripe_rows} if stripe_rows else {}
    taken = elsewhere(peak, GIVE_BACK, **options)
    striped = SIZE.map_bytes() + SIZE.stripe_bytes(stripe_rows or 0)
    predicted = striped if stripe_rows else SIZE.whole_bytes()
    assert taken / 1.3 < predicted < taken * 1.3


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("divisor", "maps"), [(3, "device"), (8, "files")])
def test_the_process_stays_within_the_budget(divisor, maps):
    budget = SIZE.whole_bytes() // divisor
    assert plan_stripes(SIZE, CPU, budget, None).maps == maps
    assert elsewhere(peak, {}, memory_bytes=budget) < budget


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
