"""Which pixels sample `n` is made of: pure arithmetic, no list, no state.

    sample id n ── step n // G, lane n % G ── visit ── source ── image ── generator (seed, n)

A training step consumes the G sample ids `[step * G, (step + 1) * G)`; G is the global batch. Its
positions are *lanes*. Each lane walks visits of its own: a visit is one decode of one image, from
which several crops are cut, and the crops of a few consecutive visits are shuffled within a
*window*. So a batch holds G images, an image is decoded once for many steps, and whoever computes
some lanes decodes only the images of those lanes: any split of the lanes over workers, any number
of blocks and any restart point give the same bytes. Visits are shared out among the sources of a
mixture by their weights, exactly. docs/adr/0002-plan.md has the reasons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

ROUNDS = 6
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(*values: int) -> int:
    """Return 64 well-mixed bits of some integers (the finaliser of SplitMix64, chained)."""
    state = _GOLDEN
    for value in values:
        state = finalise(state + value + _GOLDEN)
    return state


def finalise(value: int) -> int:
    """Return 64 bits, each of which depends on each bit of the value (SplitMix64)."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=1024)
def round_keys(key: int) -> tuple[int, ...]:
    """Return the keys of a permutation's rounds."""
    return tuple(mix(key, turn) for turn in range(ROUNDS))


def permute(index: int, size: int, key: int) -> int:
    """Return the image of `index` under the permutation of range(size) that `key` names.

    A Feistel network on the next even number of bits, walked until it lands inside the range
    (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): constant memory for any
    size, at most four walks on average.
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is outside range({size})")
    if size == 1:
        return 0
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask, keys = (1 << half) - 1, round_keys(key)
    while True:
        left, right = index >> half, index & mask
        for round_key in keys:
            left, right = right, left ^ (finalise(round_key + right) & mask)
        index = (left << half) | right
        if index < size:
            return index


@dataclass(frozen=True)
class Sample:
    """Where one training sample comes from."""

    sample_id: int
    """Position in the endless sequence of samples."""
    visit: int
    """Which decode it is cut from; the same visit is the same image."""
    source: int
    """Index of the source."""
    image: int
    """Index of the image in its source."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The endless sequence of samples; equal plans give equal bytes."""

    seed: int
    """Names the sequence."""
    source_images: tuple[int, ...]
    """Images of each source; each is visited once before any of its source is visited again."""
    source_weights: tuple[int, ...] = (1,)
    """Visits of each source among every `sum(source_weights)` visits."""
    global_batch: int
    """Samples per training step over all workers; also the number of lanes."""
    crops_per_visit: int = 16
    """Crops cut from one decode."""
    visits_per_window: int = 2
    """Consecutive visits of a lane whose crops are shuffled together."""

    def __post_init__(self) -> None:
        """Refuse what has no samples."""
        for name, value in vars(self).items():
            counts = value if isinstance(value, tuple) else (value,)
            if name != "seed" and min(counts, default=0) < 1:
                raise ValueError(f"{name} {value} is less than 1; use at least 1")
        if len(self.source_images) != len(self.source_weights):
            raise ValueError(
                f"{len(self.source_images)} sources have {len(self.source_weights)} weights; "
                "give each source one, for example (3, 1)"
            )

    @property
    def window_steps(self) -> int:
        """Steps after which every lane has used up its visits."""
        return self.crops_per_visit * self.visits_per_window

    def locate(self, sample_id: int) -> Sample:
        """Return the visit and the image of a sample."""
        visit = self.visit(sample_id)
        return Sample(sample_id, visit, *self.image(visit))

    def visit(self, sample_id: int) -> int:
        """Return which decode a sample is cut from."""
        step, lane = divmod(sample_id, self.global_batch)
        window, slot = divmod(step, self.window_steps)
        shuffled = permute(slot, self.window_steps, mix(self.seed, 1, window, lane))
        lane_visit = window * self.visits_per_window + shuffled // self.crops_per_visit
        return lane_visit * self.global_batch + lane

    def image(self, visit: int, skip: int = 0) -> tuple[int, int]:
        """Return the source of a visit and the image there, or the one `skip` places after it.

        Every cycle of `sum(source_weights)` visits is dealt out in an order of its own, and every
        source walks a new permutation of its images in each of its epochs.
        """
        cycle, position = divmod(visit, sum(self.source_weights))
        slot = permute(position, sum(self.source_weights), mix(self.seed, 3, cycle))
        source = 0
        while slot >= self.source_weights[source]:
            slot -= self.source_weights[source]
            source += 1
        size = self.source_images[source]
        epoch, place = divmod(cycle * self.source_weights[source] + slot, size)
        found = permute(place, size, mix(self.seed, 2, epoch, *[source] * (source > 0)))
        return source, (found + skip) % size

    def rng(self, sample_id: int) -> np.random.Generator:
        """Return the generator that makes every random choice of a sample."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, sample_id])))


@dataclass(frozen=True)
class Span:
    """A rectangle of the plan: some steps of some lanes; one block of a stream."""

    first_step: int
    """First step, inclusive."""
    last_step: int
    """Last step, exclusive."""
    first_lane: int
    """First lane, inclusive."""
    last_lane: int
    """Last lane, exclusive."""

    def sample_ids(self, global_batch: int) -> list[int]:
        """Return the sample ids of the rectangle, step by step."""
        return [
            step * global_batch + lane
            for step in range(self.first_step, self.last_step)
            for lane in range(self.first_lane, self.last_lane)
        ]


def spans(
    plan: Plan, *, first_step: int, last_step: int, num_workers: int, lanes_per_span: int
) -> Iterator[Span]:
    """Cut steps [first_step, last_step) into spans of one window and some lanes, workers in turn.

    A span has at most `lanes_per_span` lanes, those of a worker about as many as each other, and
    the n-th of every worker as many as the n-th of any other. Raises ValueError when the lanes do
    not divide among the workers.
    """
    if plan.global_batch % num_workers:
        raise ValueError(
            f"global batch {plan.global_batch} does not divide among {num_workers} workers; "
            f"use a multiple of {num_workers}"
        )
    lanes = plan.global_batch // num_workers
    num_spans = -(-lanes // lanes_per_span)
    cuts = [lanes * cut // num_spans for cut in range(num_spans + 1)]
    start = first_step
    while start < last_step:
        stop = min(last_step, (start // plan.window_steps + 1) * plan.window_steps)
        for low, high in pairwise(cuts):
            for worker in range(num_workers):
                yield Span(start, stop, worker * lanes + low, worker * lanes + high)
        start = stop
