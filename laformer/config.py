"""The configuration of the network and of its training. Standard library only."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

from laformer import terms

Phi = Literal["elu", "relu"]
Combination = Literal["parallel", "alternating", "sequential", "spatial"]

NUM_LEVELS = 4
SCALES = (1, 2, 3, 4, 8)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a LAformer is. The defaults are the `base` size; `SIZES` lists the named ones."""

    in_channels: int = 3
    """Channels of lq: 3 for RGB, 6 for a dual-pixel pair, 1 for grey."""
    out_channels: int = 3
    """Channels of the restored image; the network adds its answer to as many of lq, the first."""
    scale: int = 1
    """Height and width of the restored image over those of lq: above 1, super-resolution."""
    dim: int = 48
    """Channels at full resolution; level i of the U has dim * 2**i."""
    blocks: tuple[int, int, int, int] = (4, 6, 6, 8)
    """Blocks per level, full resolution first; the decoder mirrors the first three."""
    refinement: int = 4
    """Blocks after the decoder, at full resolution and 2 * dim channels."""
    head_dim: int = 48
    """Channels per attention head, the same at every level."""
    phi: Phi = "elu"
    """The non-negative feature map of linear attention: ELU + 1 or ReLU."""
    kernel: int = 5
    """Side in pixels of the depthwise convolution on V; 0 removes it (plain linear attention)."""
    combination: Combination = "parallel"
    """How spatial (RELA) and channel attention share a block; `spatial` leaves the latter out."""
    expansion: float = 2.66
    """Hidden channels of the feed-forward network over its input channels."""

    def __post_init__(self) -> None:
        """Check what the layers need; each message names the fix."""
        for name, least in {"dim": 2, "head_dim": 1, "out_channels": 1, "refinement": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} is less than {least}; use {least}")
        if self.dim % 2:
            raise ValueError(
                f"dim {self.dim} is odd, but the way down halves channels; use dim={self.dim + 1}"
            )
        if self.dim % self.head_dim:
            raise ValueError(
                f"dim {self.dim} is not a multiple of head_dim {self.head_dim}; "
                f"use head_dim={self.dim}"
            )
        if self.kernel not in (0, 3, 5, 7):
            raise ValueError(f"kernel {self.kernel} is not one of 0, 3, 5, 7; use 5")
        if len(self.blocks) != NUM_LEVELS or min(self.blocks) < 1:
            raise ValueError(
                f"blocks {self.blocks} does not give each of {NUM_LEVELS} levels at least one; "
                "use for example (2, 3, 3, 4)"
            )
        if self.scale not in SCALES:
            raise ValueError(f"scale {self.scale} is not one of {SCALES}; use 1 to keep the size")
        if self.in_channels < self.out_channels:
            raise ValueError(
                f"in_channels {self.in_channels} is less than out_channels {self.out_channels}: "
                "the global residual adds the first channels of the input; "
                f"use in_channels={self.out_channels}"
            )


SIZES: dict[str, ModelConfig] = {
    "tiny": ModelConfig(dim=12, head_dim=12, blocks=(1, 1, 1, 1), refinement=1, expansion=1.5),
    "small": ModelConfig(dim=32, head_dim=32, blocks=(2, 3, 3, 4), refinement=2),
    "base": ModelConfig(),
}


Precision = Literal["float32", "bfloat16"]
Context = Literal["auto", "whole", "stripes", "tiles"]


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How one image is restored. No choice of these but `precision` needs a network of its own."""

    context: Context = "auto"
    """What the network sees at a time: whole, stripes or tiles; auto is whole where memory permits.

    Else auto is stripes, the result of the whole image in less memory; tiles see themselves alone.
    Only what is too large to be held is cut into tiles by auto."""
    tile_px: int = 512
    """Side of a tile in pixels of lq; what it costs is bounded by it, and so is what it sees."""
    overlap_px: int = 64
    """Rows and columns in which neighbouring tiles fade into each other, in pixels of lq."""
    ensemble: bool = False
    """Mean of the eight results of the image flipped and turned: eight times the work."""
    memory_bytes: int | None = None
    """Budget for one image beside the weights, at most half of what is free when not given."""
    precision: Precision = "float32"
    """Of the network's products; bfloat16 takes half the memory, the image stays float32."""

    def __post_init__(self) -> None:
        """Check what tiles and budgets need; each message names the fix."""
        multiple = 2 ** (NUM_LEVELS - 1)
        if self.tile_px < 4 * multiple or self.tile_px % multiple:
            nearest = max(4 * multiple, round(self.tile_px / multiple) * multiple)
            raise ValueError(
                f"tile_px {self.tile_px} is not a multiple of {multiple} from {4 * multiple} on; "
                f"use {nearest}"
            )
        if not 0 <= self.overlap_px <= self.tile_px // 2:
            raise ValueError(
                f"overlap_px {self.overlap_px} is outside 0 to {self.tile_px // 2}, half a tile; "
                f"use {self.tile_px // 8}"
            )
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise ValueError(
                f"memory_bytes {self.memory_bytes} is less than 1; use for example 4000000000"
            )

    def pixels(self) -> dict[str, str | int | bool]:
        """Return what decides the restored pixels; equal values restore alike.

        Whole and stripes differ by the rounding of sums alone, in float32 about 1e-5 of the range:
        here and there a level. They count as one, and memory, which chooses, does not count.
        """
        exact = self.context in ("whole", "stripes")
        tiles = {} if exact else {"tile_px": self.tile_px, "overlap_px": self.overlap_px}
        return {
            "context": "exact" if exact else self.context,
            "ensemble": self.ensemble,
            "precision": self.precision,
            **tiles,
        }


_COUNTS = (
    "steps",
    "accumulate",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "segment_steps",
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Steps of a run that have one size of patch and one batch."""

    first_step: int
    """Its first step; it ends where the next one begins, or with the run."""
    patch_px: int
    """Side in pixels of the square training crops."""
    global_batch: int
    """Samples per step over all workers, whatever their number."""

    def __post_init__(self) -> None:
        """Check what the network and the plan need; each message names the fix."""
        for name, least in {"first_step": 0, "patch_px": 1, "global_batch": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} {getattr(self, name)} is less than {least}; use at least {least}"
                )
        multiple = 2 ** (NUM_LEVELS - 1)
        if self.patch_px % multiple:
            nearest = max(multiple, round(self.patch_px / multiple) * multiple)
            raise ValueError(
                f"patch_px {self.patch_px} is not a multiple of {multiple}; use {nearest}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained. Counts are optimiser steps unless the name says otherwise."""

    steps: int = 300_000
    """Optimiser steps of the whole run."""
    global_batch: int = 32
    """Samples per step of the first stage over all workers, whatever their number."""
    accumulate: int = 1
    """Parts of a step that each worker computes one after the other: less memory, same result."""
    patch_px: int = 128
    """Side in pixels of the square training crops of the first stage."""
    stages: tuple[Stage, ...] = ()
    """Later stages, as STEP:PATCH_PX:BATCH; without any the first one is the whole run."""
    lr: float = 3e-4
    """Learning rate after warm-up."""
    final_lr: float = 1e-6
    """Learning rate at the last step."""
    warmup_steps: int = 500
    """Steps of linear warm-up from zero."""
    flat_steps: int = 92_000
    """Steps after warm-up before the cosine to `final_lr` begins."""
    weight_decay: float = 1e-4
    """AdamW's decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averaging of the gradient and of its square."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; a longer one is scaled down."""
    ema_decay: float = 0.999
    """Decay per step of the averaged weights, the ones that are validated and released."""
    loss: str = "charbonnier"
    """What is minimised: charbonnier, l1, frequency, or a sum: "charbonnier + 0.05 frequency"."""
    precision: Precision = "float32"
    """Of the network's products in training; weights, their averages and the loss stay float32."""
    compile: bool = False
    """Compile the network before the first step: minutes once, then faster steps on a GPU."""
    shard: bool = False
    """Cut weights and all averages over the workers (FSDP2): each holds its share, from the start.

    While a validation runs, each has the averaged weights whole beside it."""
    max_skipped: int = 20
    """Steps in a row that may be skipped because their gradient is no number; 0 stops at once."""
    seed: int = 0
    """Names the samples and the initial weights."""
    log_every: int = 50
    """Steps between two logged losses."""
    checkpoint_every: int = 5_000
    """Steps between two checkpoints, each with a validation."""
    keep_checkpoints: int = 3
    """Last checkpoints kept, and beside them the best one."""
    segment_steps: int = 1_000
    """Steps that one Ray Data execution feeds; bounds its bookkeeping."""
    patience: int | None = None
    """Validations in a row without a better held-out PSNR after which the run ends; never if None.

    The rate of learning falls until `steps`: a run that ends before has not seen its end."""

    def __post_init__(self) -> None:
        """Check the ranges; each message names the fix."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1; use at least 1")
        terms.parse(self.loss)
        if self.compile and self.shard:
            raise ValueError("compile is not tested together with shard; use one of them")
        for name in ("seed", "warmup_steps", "flat_steps", "max_skipped"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative; use at least 0")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience {self.patience} is less than 1; use 1, or None to go on")
        self._check_stages()
        if not 0 < self.lr < 1:
            raise ValueError(f"lr {self.lr} is outside (0, 1); use for example 3e-4")
        if self.warmup_steps + self.flat_steps > self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} + flat_steps {self.flat_steps} exceed "
                f"steps {self.steps}; use flat_steps={max(0, self.steps // 3)} "
                f"and warmup_steps={self.steps // 10}"
            )

    def _check_stages(self) -> None:
        for stage in self.all_stages:
            if stage.global_batch % self.accumulate:
                raise ValueError(
                    f"global_batch {stage.global_batch} does not divide into {self.accumulate} "
                    f"parts; use accumulate={math.gcd(stage.global_batch, self.accumulate)}"
                )
        starts = [stage.first_step for stage in self.all_stages]
        for earlier, later in itertools.pairwise(starts):
            if later <= earlier:
                raise ValueError(
                    f"stages begin at steps {earlier} and {later}, one after the other; "
                    "order them by step, each after step 0"
                )
        if starts[-1] >= self.steps:
            raise ValueError(
                f"a stage begins at step {starts[-1]}, but the run has {self.steps} steps; "
                "use more steps, or fewer stages (--train.stages alone leaves out all)"
            )

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """Every stage in order, the first one included."""
        first = Stage(first_step=0, patch_px=self.patch_px, global_batch=self.global_batch)
        return (first, *self.stages)

    def stage_at(self, step: int) -> Stage:
        """Return the stage that a step belongs to."""
        return [stage for stage in self.all_stages if stage.first_step <= step][-1]

    def segment_end(self, step: int) -> int:
        """Return the step before which a segment from `step` on ends: none crosses a stage."""
        ends = [stage.first_step for stage in self.stages if stage.first_step > step]
        return min(self.steps, step + self.segment_steps, *ends)
