"""Samples that trials share: decoded once, in the order of the project's own plan.

Trials of one search mostly differ in what they do with the same samples. The first that asks for a
block has it decoded; the others find it in the object store.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray

from jobs.training.watching import here
from laformer.batches import Batch, Lanes, steps_of, to_batch
from pipelines.plan import Span
from pipelines.stages import StagedStream
from pipelines.training import Block, CropReader, TrainingStream

Blocks: TypeAlias = Callable[[TrainingStream, Iterator[Span]], Iterator[Block]]
"""Spans of a stream to their blocks, in order."""
AHEAD = 1
"""Blocks that are asked for while one is used."""


def decoded(stream: TrainingStream, spans: Iterator[Span]) -> Iterator[Block]:
    """Yield the blocks of spans, decoded here."""
    return map(CropReader(stream).read, spans)


def batches(
    staged: StagedStream, first_step: int, last_step: int, blocks: Blocks, device: Any
) -> Iterator[Batch]:
    """Yield the batches of steps [first_step, last_step), as one worker of a run gets them."""
    ends = [*staged.first_steps[1:], last_step]
    for start, end, stream in zip(staged.first_steps, ends, staged.streams, strict=True):
        first, last = max(start, first_step), min(end, last_step)
        if first < last:
            lanes = Lanes.of(0, 1, stream.plan.global_batch)
            found = blocks(stream, stream.cut(first, last, 1))
            for parts in steps_of(found, lanes, first_step=first):
                yield to_batch(*parts, device=device)


class Pantry:
    """An actor that knows which blocks are decoded; the blocks are in the object store."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.num_bytes = most_bytes, 0
        self.blocks: OrderedDict[tuple[str, Span], tuple[Any, int]] = OrderedDict()
        self.decoded = 0

    def find(self, stream: TrainingStream, span: Span) -> list[Any]:
        """Return the reference of a block in a list, so that Ray does not wait for it."""
        key = (repr(sorted(stream.fingerprint().items())), span)
        if key not in self.blocks:
            steps, lanes = span.last_step - span.first_step, span.last_lane - span.first_lane
            size = stream.row_bytes * steps * lanes
            self.blocks[key] = (read_block.remote(stream, span), size)
            self.num_bytes += size
            self.decoded += 1
        self.blocks.move_to_end(key)
        found = self.blocks[key][0]
        while self.num_bytes > self.most_bytes and len(self.blocks) > 1:
            _, (_, size) = self.blocks.popitem(last=False)
            self.num_bytes -= size
        return [found]

    def count(self) -> int:
        """Return how many blocks were decoded."""
        return self.decoded


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def read_block(stream: TrainingStream, span: Span) -> Block:
    """Decode a block."""
    return CropReader(stream).read(span)


@dataclass(frozen=True)
class Shared:
    """Blocks by way of a pantry: a value that trials get."""

    pantry: Any = field(repr=False)

    @classmethod
    def start(cls, most_bytes: int) -> "Shared":
        """Start a pantry on this host."""
        return cls(here(Pantry).remote(most_bytes))

    def __call__(self, stream: TrainingStream, spans: Iterator[Span]) -> Iterator[Block]:
        """Yield the blocks of spans, each asked for while the one before it is used."""
        asked: deque[Any] = deque()
        for span in spans:
            asked.append(self.pantry.find.remote(stream, span))
            if len(asked) > AHEAD:
                yield ray.get(ray.get(asked.popleft())[0])
        while asked:
            yield ray.get(ray.get(asked.popleft())[0])
