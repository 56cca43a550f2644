"""What a training step calls: the network, compiled, or one of several that average gradients."""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from laformer.config import ModelConfig, TrainConfig
from laformer.model import LAformer


def wrapped(model: nn.Module, config: TrainConfig, num_workers: int = 1) -> nn.Module:
    """Return what a step calls; the network itself stays as it is, with the names it has.

    With several workers the process group must be there, and all must call it as often.
    """
    forward = model
    if num_workers > 1:
        forward = DistributedDataParallel(model)
    if config.compile:
        # Outside: the compiler then cuts the graph where a bucket of gradients is complete, so
        # that sending and computing overlap.
        forward = cast("nn.Module", torch.compile(forward))
    return forward


def exchanging(forward: nn.Module, *, now: bool) -> AbstractContextManager[None]:
    """Let workers exchange the gradients of a pass; not `now`: together with those of a later."""
    later = nullcontext if now else getattr(forward, "no_sync", nullcontext)
    return cast("AbstractContextManager[None]", later())


def is_sharded(model: nn.Module) -> bool:
    """Return whether each worker holds a share of the weights alone (laformer/sharding.py)."""
    return isinstance(model, FSDPModule)


def whole(value: Tensor) -> Tensor:
    """Return a tensor with the shares of all workers, who must all ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def fill(target: Tensor, value: Tensor, *, from_first: bool = False) -> None:
    """Give a tensor other values; of one that is cut, each worker takes its share of them.

    `from_first`: those of the first worker, sent to the others. All workers must call it then.
    """
    if isinstance(target, DTensor):
        source = 0 if from_first else None
        packed = value.detach().contiguous()
        cut = distribute_tensor(packed, target.device_mesh, target.placements, src_data_rank=source)
        target.to_local().copy_(cut.to_local())
    else:
        target.copy_(value)


def whole_network(
    config: ModelConfig, weights: dict[str, Tensor], device: torch.device | str
) -> LAformer:
    """Return a network of its own with the weights of all workers, who must all ask for it."""
    with torch.device("meta"):  # draws no random weights
        model = LAformer(config)
    gathered = {name: whole(value.detach()).to(device) for name, value in weights.items()}
    model.load_state_dict(gathered, assign=True)
    return model
