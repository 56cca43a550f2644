"""Two processes that train one network, over gloo on this machine."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing

from laformer import loop, parallel
from laformer.batches import Batch
from tests.networks import config, state

WORKERS = 2
TRAIN = config(global_batch=4, steps=3, loss="l1")  # its derivative hides what is no number
CASES = {
    "whole": (TRAIN, ()),
    "parts": (dataclasses.replace(TRAIN, accumulate=2), ()),
    "spoiled": (TRAIN, (1,)),
}
"""What is trained, and the steps in which the last sample, the last worker's, is no number."""


def stream(bad):
    """Return three global batches of four samples."""
    rng = torch.Generator().manual_seed(0)
    whole = [
        Batch(np.arange(4 * i, 4 * i + 4), *torch.rand((2, 4, 3, 16, 16), generator=rng))
        for i in range(3)
    ]
    for step in bad:
        whole[step].gt[3, 0, 3, 4] = math.nan
    return whole


def tensors(trained):
    """Return the weights and their averages."""
    found = dict(trained.model.state_dict()) | {f"ema.{n}": v for n, v in trained.ema.items()}
    return {name: value.detach().contiguous() for name, value in found.items()}


def worker(rank, folder):
    """Train each case on this rank's share, and leave the tensors and what was counted."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS
    )
    for case, (train, bad) in CASES.items():
        trained = state(train)
        trained.forward = parallel.wrapped(trained.model, train, WORKERS)
        exchanges = []
        trained.forward.register_comm_hook(exchanges, averaged)
        for batch in stream(bad):
            loop.train_step(trained, batch.parts(WORKERS)[rank], train)
        counts = [trained.step, trained.skips.total, trained.skips.in_row, len(exchanges)]
        save_file(tensors(trained), Path(folder) / f"{case}{rank}.safetensors")
        np.save(Path(folder) / f"{case}{rank}.npy", counts)
    dist.destroy_process_group()


def averaged(exchanges, bucket):
    """Average gradients over workers as usual, and count how often all of them were."""
    if bucket.is_last():
        exchanges.append(bucket.index())
    sums = dist.all_reduce(bucket.buffer().div_(WORKERS), async_op=True)
    return sums.get_future().then(lambda future: future.value()[0])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    multiprocessing.spawn(worker, (str(folder),), nprocs=WORKERS)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_workers_learn_what_one_learns_and_exchange_gradients_once_a_step(trained, case):
    train, bad = CASES[case]
    alone = state(train)
    for batch in stream(bad):
        loop.train_step(alone, batch, dataclasses.replace(train, accumulate=1))
    first, second = (load_file(trained / f"{case}{rank}.safetensors") for rank in range(WORKERS))
    for name, value in tensors(alone).items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-5)
    for rank in range(WORKERS):
        counts = np.load(trained / f"{case}{rank}.npy").tolist()
        assert counts == [3, len(bad), 0, 3]
