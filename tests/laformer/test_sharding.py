"""Two processes that hold half of a network each, over gloo on this machine."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import multiprocessing
from torch.distributed.tensor import DTensor

from laformer import checkpoint, initial, loop, sharding
from laformer.model import num_parameters
from tests.laformer.test_parallel import TRAIN, WORKERS, stream, tensors
from tests.networks import MODEL, state

CASES = {
    "whole": (dataclasses.replace(TRAIN, shard=True), ()),
    "parts": (dataclasses.replace(TRAIN, shard=True, accumulate=2), ()),
    "spoiled": (dataclasses.replace(TRAIN, shard=True), (1,)),
}


def steps(trained, batches, rank, train):
    for batch in batches:
        loop.train_step(trained, batch.parts(WORKERS)[rank], train)


def worker(rank, folder):
    """Train each case on this rank's share, once in one go and once with a resumption."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS
    )
    starts_from_released_weights()
    for case, (train, bad) in CASES.items():
        trained = fresh(train)
        as_one_draws_them(trained, train)
        held_by_this_worker(trained)
        steps(trained, stream(bad)[:2], rank, train)
        whole = sharding.gather(trained, train, keep=rank == 0)
        assert (whole is None) == (rank != 0)
        if rank == 0:
            checkpoint.save(Path(folder) / f"{case}.checkpoint", whole, {})
        steps(trained, stream(bad)[2:], rank, train)
        leave(trained, train, Path(folder) / f"{case}{rank}.safetensors")
        dist.barrier()
        resumed = fresh(train, seed=9)
        checkpoint.load_state(Path(folder) / f"{case}.checkpoint", resumed)
        steps(resumed, stream(bad)[2:], rank, train)
        leave(resumed, train, Path(folder) / f"{case}{rank}.resumed.safetensors")
        assert resumed.skips == trained.skips
        assert trained.skips.total == len(bad)
    dist.destroy_process_group()


def fresh(train, seed=0):
    torch.manual_seed(seed)
    return sharding.create(MODEL, train, torch.device("cpu"))


def as_one_draws_them(trained, train):
    """Compare with a state that is made in one piece, weights and averages, bit by bit."""
    whole, alone = sharding.gather(trained, train), state(train)
    for name, value in tensors(alone).items():
        assert torch.equal(tensors(whole)[name], value), name


def starts_from_released_weights():
    train, released = CASES["whole"][0], state(TRAIN, seed=5)
    files = dict(checkpoint.Snapshot.take(released, {}).files())
    files[checkpoint.MODEL] = files[checkpoint.WEIGHTS]  # its name in a released checkpoint
    begun = fresh(train)
    initial.start_from(begun, files)
    whole = tensors(sharding.gather(begun, train))
    assert all(torch.equal(whole[name], value) for name, value in tensors(released).items())


def held_by_this_worker(trained):
    parameters = list(trained.model.parameters())
    assert all(isinstance(each, DTensor) for each in [*parameters, *trained.ema.values()])
    held = sum(each.to_local().numel() for each in parameters)
    assert held == pytest.approx(num_parameters(trained.model) / WORKERS, rel=0.1)


def leave(trained, train, path):
    """Save all tensors; the network that validation borrows has the averaged weights."""
    with loop.averaged(trained) as model:
        lent = {name: value.clone() for name, value in model.state_dict().items()}
        assert model(stream(())[0].lq).isfinite().all()
    whole = sharding.gather(trained, train)
    assert all(torch.equal(value, whole.ema[name]) for name, value in lent.items())
    save_file(tensors(whole), path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    multiprocessing.spawn(worker, (str(folder),), nprocs=WORKERS)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_workers_with_shares_learn_what_one_learns(trained, case):
    train, bad = CASES[case]
    alone = state(train)
    for batch in stream(bad):
        loop.train_step(alone, batch, dataclasses.replace(train, accumulate=1))
    first = load_file(trained / f"{case}0.safetensors")
    for name, value in tensors(alone).items():
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_workers_with_shares_resume_to_the_same_bytes(trained, case):
    first = load_file(trained / f"{case}0.safetensors")
    for other in (f"{case}1", f"{case}0.resumed", f"{case}1.resumed"):
        for name, value in load_file(trained / f"{other}.safetensors").items():
            assert torch.equal(first[name], value), (other, name)


def test_a_state_that_is_whole_is_gathered_as_it_is():
    alone = state(TRAIN)
    assert sharding.gather(alone, TRAIN) is alone
