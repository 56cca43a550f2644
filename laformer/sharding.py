"""A training state cut over workers, for networks that do not fit beside it on one device.

Each worker holds its share of the weights, gradients, averages of gradients and averaged weights
(torch's FSDP2), and gathers the weights of one block while it computes it. A checkpoint is whole:
it does not tell how many workers wrote it.
"""

import dataclasses

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from laformer import parallel
from laformer.config import TrainConfig
from laformer.loop import State, adamw
from laformer.model import Block


def shard(state: State, config: TrainConfig) -> State:
    """Cut a whole state, the same on every worker of the process group; it is used up."""
    # FSDP2 takes packed weights only; the maps stay channels_last.
    model = state.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    moments = {name: state.optimizer.state.get(p, {}) for name, p in model.named_parameters()}
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    parameters = dict(model.named_parameters())
    optimizer = adamw(model, config)
    for name, parameter in parameters.items():
        optimizer.state[parameter] = {
            key: value if key == "step" else _share(value, parameter)
            for key, value in moments[name].items()
        }
    ema = {name: _share(value, parameters[name]) for name, value in state.ema.items()}
    return State(model, ema, optimizer, state.step, dataclasses.replace(state.skips))


def gather(state: State, config: TrainConfig) -> State:
    """Return a whole copy in host memory of a state that was cut; another state as it is.

    Every worker must call it, though one may be enough to save what it returns.
    """
    if not parallel.is_sharded(state.model):
        return state
    model = parallel.whole_network(state.model.config, state.model.state_dict(), "cpu")
    optimizer = adamw(model, config)
    shares = dict(state.model.named_parameters())
    for name, parameter in model.named_parameters():
        moments = state.optimizer.state.get(shares[name], {})
        optimizer.state[parameter] = {
            key: parallel.whole(value).cpu() for key, value in moments.items()
        }
    ema = {name: parallel.whole(value).cpu() for name, value in state.ema.items()}
    return State(model, ema, optimizer, state.step, dataclasses.replace(state.skips))


def _share(value: Tensor, like: Tensor) -> Tensor:
    """Return this worker's share of a tensor that every worker has, cut as `like` is."""
    assert isinstance(like, DTensor)
    packed = value.detach().contiguous()
    return distribute_tensor(packed, like.device_mesh, like.placements, src_data_rank=None)
