"""Patches and batches that grow during a run: a training stream for each stage, one by one.

Each stage cuts crops of its own size from the start, over a plan of its own. Steps are counted
through the whole run and a step belongs to one stage, so that the step alone says where to resume.
Step and sample id name a sample; a sample id alone may stand in several stages, for other pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray.data

from pipelines.plan import mix
from pipelines.tasks import Task
from pipelines.training import TrainingStream, opened


class Stage(Protocol):
    """What a stage asks of its stream; `laformer.config.Stage` is one."""

    @property
    def first_step(self) -> int:
        """Its first step."""

    @property
    def patch_px(self) -> int:
        """Side of its crops of gt in pixels."""

    @property
    def global_batch(self) -> int:
        """Samples of each of its steps over all workers."""


@dataclass(frozen=True, kw_only=True)
class StagedStream:
    """The streams of a run; a value that every worker can turn into the same samples."""

    first_steps: tuple[int, ...]
    """First step of each stage, from 0 on; it ends where the next one begins."""
    streams: tuple[TrainingStream, ...]
    """The stream of each stage."""

    @classmethod
    def create(
        cls,
        uris: tuple[str, ...],
        *,
        task: Task,
        stages: Sequence[Stage],
        plan_options: dict[str, Any],
    ) -> "StagedStream":
        """Plan each stage over the training images of some manifests that are large enough.

        Raises ManifestError when a stage has none, DataError for a patch that the task's scale
        does not divide: before the first step, not in the middle of a run.
        """
        catalogues = opened(uris, task)
        return cls(
            first_steps=tuple(stage.first_step for stage in stages),
            streams=tuple(
                TrainingStream.over(
                    catalogues,
                    task=task,
                    patch_px=stage.patch_px,
                    plan_options=plan_options
                    | {
                        "global_batch": stage.global_batch,
                        "seed": stage_seed(plan_options["seed"], index),
                    },
                )
                for index, stage in enumerate(stages)
            ),
        )

    def at(self, step: int) -> TrainingStream:
        """Return the stream of a step."""
        return self.streams[self._index(step)]

    def segment(self, first_step: int, last_step: int, num_workers: int) -> ray.data.Dataset:
        """Return the blocks of steps [first_step, last_step), all of one stage."""
        if self._index(first_step) != self._index(last_step - 1):
            raise ValueError(
                f"steps {first_step} to {last_step} are of several stages, which begin at "
                f"{self.first_steps}; end a segment where its stage ends"
            )
        return self.at(first_step).segment(first_step, last_step, num_workers)

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal for a resumed run to see the same samples.

        Of later stages only what they have otherwise, by their first step.
        """
        first, *later = (stream.fingerprint() for stream in self.streams)
        differing = {
            str(step): {name: fact for name, fact in facts.items() if fact != first[name]}
            for step, facts in zip(self.first_steps[1:], later, strict=True)
        }
        return first | ({"stages": differing} if differing else {})

    @property
    def digest(self) -> str:
        """Digests of the manifests."""
        return self.streams[0].digest

    @property
    def window_bytes(self) -> int:
        """Bytes of the crops of the largest window: training holds one, the next is being made."""
        return max(stream.window_bytes for stream in self.streams)

    def left_out(self) -> list[str]:
        """Say of each stage whose crops fewer photos hold than those of the first, how many."""
        first = sum(self.streams[0].plan.source_images)
        counts = [sum(stream.plan.source_images) for stream in self.streams]
        return [
            f"from step {step} on {first - count} of {first} photos are left out: "
            f"a side has fewer than {stream.patch_px} pixels"
            for step, stream, count in zip(self.first_steps, self.streams, counts, strict=True)
            if count < first
        ]

    def _index(self, step: int) -> int:
        return sum(first <= step for first in self.first_steps) - 1


def stage_seed(seed: int, index: int) -> int:
    """Return the seed of a stage's plan: the run's own for the first."""
    return mix(seed, 4, index) if index else seed
