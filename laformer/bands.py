"""One image over several processes: each has a band of rows and borrows what it lacks.

A block needs of the other bands only a few rows beside its own and the sums over all pixels
(laformer/attention.py). So processes exchange rows with their neighbours before each walk over a
map, and add up the sums after it; everything else is as if a band were an image.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from laformer.attention import Sums
from laformer.config import ModelConfig
from laformer.errors import ModelError
from laformer.geometry import MULTIPLE
from laformer.maps import Band, Bordered, FeatureMap
from laformer.model import LAformer

T = TypeVar("T")


class Alone:
    """One process has the whole image: no neighbours, nothing to add."""

    def band(self, height: int) -> Band:
        """Return the rows of this process."""
        return Band(0, height)

    def border(self, inside: FeatureMap, _: int) -> Bordered:
        """Return the map with the rows of its neighbours."""
        return Bordered(inside)

    def total(self, sums: Sequence[Sums | None], _: int) -> Sequence[Sums | None]:
        """Return the sums over all bands."""
        return sums

    def agreed(self, plan: Callable[[], T]) -> T:
        """Return plan(); fail if it fails in any process."""
        return plan()


class Group:
    """The processes of a group; those at the end get no rows when the image is too low for all.

    Exchanges and additions are collective: every process with rows makes the same calls in the
    same order.
    """

    def __init__(self, group: dist.ProcessGroup, model: LAformer, height: int) -> None:
        """Share `height` rows, a multiple of MULTIPLE, among a group.

        Raises ModelError in a process that does not belong to it.
        """
        self.group, self.rank = group, dist.get_rank(group)
        if self.rank < 0:
            raise ModelError(
                f"process {dist.get_rank()} is not in this group; restore in its members alone"
            )
        config, self.device = model.config, model.embed.weight.device
        self.size = dist.get_world_size(group)
        self.num = num_bands(config, height, self.size)
        self.ranks = [dist.get_global_rank(group, rank) for rank in range(self.num)]

    def band(self, height: int) -> Band:
        """Return the rows of this process; none when it has no part."""
        units = height // MULTIPLE
        bounds = [MULTIPLE * (rank * units // self.num) for rank in range(self.num + 1)]
        ends = [*bounds, *[height] * (self.rank + 1)]
        return Band(ends[self.rank], ends[self.rank + 1])

    def border(self, inside: FeatureMap, num: int) -> Bordered:
        """Return the map with `num` rows of each neighbour, as they are at this call."""
        if not num:
            return Bordered(inside)
        top, bottom = inside.band
        mine = {self.rank - 1: (top, top + num), self.rank + 1: (bottom - num, bottom)}
        received: dict[int, Tensor] = {}
        calls = []
        for rank, rows in mine.items():
            if not 0 <= rank < self.num:
                continue
            sent = inside.read(*rows).permute(0, 2, 3, 1).contiguous()
            received[rank] = torch.empty_like(sent)
            for operation, tensor in ((dist.isend, sent), (dist.irecv, received[rank])):
                calls.append(dist.P2POp(operation, tensor, self.ranks[rank], self.group))
        for work in dist.batch_isend_irecv(calls) if calls else ():
            work.wait()
        above, below = (received.get(rank) for rank in mine)
        return Bordered(
            inside,
            None if above is None else above.permute(0, 3, 1, 2),
            None if below is None else below.permute(0, 3, 1, 2),
        )

    def agreed(self, plan: Callable[[], T]) -> T:
        """Return plan(); raise ModelError in every process if it fails in one.

        All processes of the group come here first, also those without rows: NCCL wants that.
        """
        problem, found = None, None
        try:
            found = plan()
        except ModelError as error:
            problem = error
        failed = torch.tensor(int(problem is not None), device=self.device)
        dist.all_reduce(failed, group=self.group)
        if problem is not None:
            raise problem
        if failed:
            raise ModelError(
                f"{int(failed)} of {self.size} processes cannot begin; their own errors say why"
            )
        return cast(T, found)

    def total(self, sums: Sequence[Sums | None], num: int) -> Sequence[Sums | None]:
        """Return the sums over all bands, `num` pixels; the same to the bit in every process."""
        tensors = [value for each in sums if each for value in each.tensors]
        if not tensors:
            return sums
        packed = torch.cat([tensor.flatten() for tensor in tensors])
        self._add(packed)
        parts = iter(torch.split(packed, [tensor.numel() for tensor in tensors]))

        def rebuilt(each: Any) -> Any:
            return type(each)(*(next(parts).view_as(tensor) for tensor in each.tensors), num)

        return [each and rebuilt(each) for each in sums]

    def _add(self, packed: Tensor) -> None:
        """Replace a tensor of each process by the sum of all."""
        if self.num == self.size:
            dist.all_reduce(packed, group=self.group)
        elif self.rank:  # those without rows know nothing of this: the others add by themselves
            dist.send(packed, self.ranks[0], self.group)
            dist.recv(packed, self.ranks[0], self.group)
        else:
            received = torch.empty_like(packed)
            for other in self.ranks[1:]:
                dist.recv(received, other, self.group)
                packed += received
            for other in self.ranks[1:]:
                dist.send(packed, other, self.group)


def num_bands(config: ModelConfig, height: int, wanted: int) -> int:
    """Return how many processes can share `height` rows, at most `wanted`.

    At the lowest level a walk borrows rows for two attentions and a feed-forward network; a band
    has at least as many, so that they all belong to one neighbour.
    """
    least: int = MULTIPLE * (2 * max(1, config.kernel // 2) + 1)
    return max(1, min(wanted, height // least))
