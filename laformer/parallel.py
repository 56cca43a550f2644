"""What a training step calls: the network, compiled, or one of several that average gradients."""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from laformer.config import TrainConfig


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


def unsynchronised(forward: nn.Module) -> AbstractContextManager[None]:
    """Keep gradients on this worker; the next ones outside of it carry them to the others."""
    no_sync = getattr(forward, "no_sync", nullcontext)
    return cast("AbstractContextManager[None]", no_sync())
