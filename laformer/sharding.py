"""A training state cut over workers, for networks that do not fit beside it on one device.

Each worker holds its share of the weights, gradients, averages of gradients and averaged weights
(torch's FSDP2), and gathers the weights of one block while it computes it. It is never whole on a
device: the first weights are made in the memory of the first worker's host and dealt out one by
one. A checkpoint is whole: it does not tell how many workers wrote it.
"""

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from laformer import parallel
from laformer.config import ModelConfig, TrainConfig
from laformer.loop import State, adamw
from laformer.model import Block, LAformer


def create(model_config: ModelConfig, config: TrainConfig, device: torch.device) -> State:
    """Return this worker's share of the state before the first step; all workers must ask for it.

    With the same seed the weights are those of a network made in one piece.
    """
    drawn = LAformer(model_config).state_dict() if dist.get_rank() == 0 else {}
    with torch.device("meta"):  # shapes alone
        model = LAformer(model_config)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device=device)
    for name, value in model.state_dict().items():
        whole = drawn.pop(name) if drawn else torch.empty(value.shape)
        parallel.fill(value, whole, from_first=True)
    ema: dict[str, Tensor] = {n: v.detach().clone() for n, v in model.state_dict().items()}
    return State(model, ema, adamw(model, config))


def gather(state: State, config: TrainConfig, *, keep: bool = True) -> State | None:
    """Return a whole copy in host memory of a state that was cut; another state as it is.

    Every worker must call it; those that do not `keep` it get None, and hold a tensor at a time.
    """
    if not parallel.is_sharded(state.model):
        return state
    shares = dict(state.model.named_parameters())
    weights = _copies(state.model.state_dict(), keep=keep)
    ema = _copies(state.ema, keep=keep)
    moments = {
        name: _copies(state.optimizer.state.get(share, {}), keep=keep)
        for name, share in shares.items()
    }
    if not keep:
        return None
    model = parallel.whole_network(state.model.config, weights, "cpu")
    optimizer = adamw(model, config)
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = moments[name]
    return State(model, ema, optimizer, state.step, dataclasses.replace(state.skips))


def _copies(tensors: dict[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Return whole copies in host memory, or nothing; all workers gather them one by one."""
    found = {}
    for name, value in tensors.items():
        whole = parallel.whole(value.detach())
        if keep:
            found[name] = whole.cpu()
    return found
