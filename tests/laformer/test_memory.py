"""Predictions hold, and budgets are kept."""

import dataclasses
import sys
from functools import partial

import pytest
import torch

from laformer import memory
from laformer.config import SIZES
from laformer.memory import Plan, Size, plan_stripes
from laformer.stripes import restore_in_stripes, restore_within
from tests.perf.measure import GIVE_BACK, THREADS, elsewhere, grown_bytes
from tests.perf.network import image, ours

SIDE = {"height": 512, "width": 512}
SIZE = Size(config=SIZES["tiny"], dtype=torch.float32, **SIDE)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")


def peak(way="whole", scale=1, side=512, **options):
    """Return by how much this process grows for one image."""
    torch.set_num_threads(THREADS)
    model = ours(dataclasses.replace(SIZES["tiny"], scale=scale))
    ways = {
        "whole": model,
        "stripes": partial(restore_in_stripes, model, **options),
        "restorer": partial(restore_within, model, **options),
    }
    with torch.inference_mode():
        model(image(64, 64))
        restore_in_stripes(model, image(64, 64))
        lq = image(side, side)
        return grown_bytes(lambda: ways[way](lq))


@linux
@pytest.mark.slow
@pytest.mark.parametrize("stripe_rows", [None, 32])
def test_tensors_take_what_is_predicted(stripe_rows):
    options = {"way": "stripes", "stripe_rows": stripe_rows} if stripe_rows else {}
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
    assert elsewhere(peak, {}, way="stripes", memory_bytes=budget) < budget


@linux
@pytest.mark.slow
@pytest.mark.parametrize("divisor", [1, 2])
def test_a_restorer_stays_within_its_budget(divisor):
    budget = SIZE.whole_bytes(CPU) // divisor
    assert elsewhere(peak, {}, way="restorer", memory_bytes=budget) < budget


@linux
@pytest.mark.slow
@pytest.mark.parametrize("stripe_rows", [None, 16])
def test_what_enlarges_takes_what_is_predicted(stripe_rows):
    size = Size(
        config=dataclasses.replace(SIZES["tiny"], scale=8),
        height=192,
        width=192,
        dtype=torch.float32,
    )
    options = {"way": "stripes", "stripe_rows": stripe_rows} if stripe_rows else {}
    taken = elsewhere(peak, GIVE_BACK, scale=8, side=192, **options)
    striped = size.map_bytes() + size.stripe_bytes(stripe_rows or 0)
    predicted = striped if stripe_rows else size.whole_bytes()
    assert taken / 1.4 < predicted < taken * 1.4


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


def test_a_wider_image_makes_a_wider_result():
    wide = dataclasses.replace(SIZE, image_dtype=torch.float64)
    assert wide.result_bytes() == 2 * SIZE.result_bytes()
