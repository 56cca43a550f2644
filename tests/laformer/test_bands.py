"""One image over several processes gives the image of one."""

import dataclasses
import json

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from laformer.attention import ChannelSums, KeyValueSums
from laformer.bands import Alone, num_bands
from laformer.config import ModelConfig
from laformer.errors import ModelError
from laformer.model import LAformer
from laformer.stripes import restore_band

SMALL = ModelConfig(dim=8, head_dim=4, blocks=(2, 1, 1, 2), refinement=1, expansion=1.5)
COMBINATIONS = ("parallel", "alternating", "sequential", "spatial")
MODES = [
    *[{"combination": combination} for combination in COMBINATIONS],
    *[{"kernel": kernel} for kernel in (0, 3, 7)],
    {"phi": "relu"},
    {"scale": 3, "in_channels": 1, "out_channels": 1},
    {"in_channels": 6},
]
TALL = (235, 5)
"""The least height that four bands need, and an odd one."""
CASES = [
    *[(options, TALL, 3, 64, torch.float64) for options in MODES],
    *[({}, TALL, processes, 64, torch.float64) for processes in (1, 2, 4)],
    *[({}, size, 4, 64, torch.float64) for size in ((1, 1), (79, 9), (121, 7))],
    *[({}, TALL, 4, rows, torch.float32) for rows in (7, 240)],
]
MOST = 4


def network(options, dtype):
    torch.manual_seed(0)
    model = LAformer(dataclasses.replace(SMALL, **options)).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def image(model, size, dtype):
    generator = torch.Generator().manual_seed(0)
    channels = model.config.in_channels
    return torch.rand(1, channels, *size, generator=generator, dtype=dtype)


def work(rank, folder):
    """Restore every case by the group of its size; write where and how far from the whole."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=MOST
    )
    groups = [dist.new_group(range(processes)) for processes in range(1, MOST + 1)]
    found = []
    for options, size, processes, stripe_rows, dtype in CASES:
        if rank >= processes:
            found.append(None)
            continue
        model = network(options, dtype)
        lq = image(model, size, dtype)
        with torch.no_grad():
            whole = model(lq)
        start, rows = restore_band(model, lq, groups[processes - 1], stripe_rows=stripe_rows)
        num = rows.shape[2]
        difference = (rows - whole[:, :, start : start + num]).abs().max() if num else 0.0
        found.append((start, num, float(difference / whole.abs().max().clamp(min=1))))
    found.append(failures(rank, groups))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def failures(rank, groups):
    """Return what a budget too small in one process alone, and a foreign group, tell this one."""
    model, told = network({}, torch.float32), []
    lq = image(model, TALL, torch.float32)
    budgets = {"memory_bytes": 1000} if rank == 1 else {}
    for group, options in ((groups[MOST - 1], budgets), (groups[0], {})):
        try:
            restore_band(model, lq, group, **options)
            told.append("")
        except ModelError as error:
            told.append(str(error))
    return told


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    mp.spawn(work, args=(folder,), nprocs=MOST)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(MOST)]


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: "-".join(map(str, CASES[i])))
def test_bands_are_the_image(found, index):
    options, (height, _), processes, _, dtype = CASES[index]
    row = 0
    for rank in range(processes):
        start, num, difference = found[rank][index]
        assert start == row
        row += num
        assert difference <= (1e-12 if dtype == torch.float64 else 1e-5)
    assert row == height * options.get("scale", 1)


def test_every_process_of_a_high_image_has_rows(found):
    assert all(each[len(CASES) - 1][1] > 0 for each in found)


def test_a_failure_in_one_process_is_one_in_all(found):
    told = [each[-1][0] for each in found]
    assert told[1].startswith("memory_bytes 1000 is less than")
    assert {told[0], told[2], told[3]} == {
        "1 of 4 processes cannot begin; their own errors say why"
    }


def test_a_process_outside_the_group_is_told_so(found):
    assert found[0][-1][1] == ""
    assert found[3][-1][1].startswith("process 3 is not in this group")


def test_a_low_image_is_shared_by_fewer():
    assert num_bands(SMALL, 16, 8) == 1
    assert num_bands(SMALL, 80, 8) == 2
    assert num_bands(SMALL, 8000, 8) == 8
    assert num_bands(dataclasses.replace(SMALL, kernel=7), 80, 8) == 1


def test_alone_there_is_nothing_to_borrow_and_nothing_to_add():
    sums = [KeyValueSums(torch.ones(1), torch.ones(1), 3), None, ChannelSums(torch.ones(1), 3)]
    assert Alone().total(sums, 3) == sums
    assert Alone().band(24) == (0, 24)
