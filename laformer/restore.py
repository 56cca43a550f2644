"""Restoring one image with a released network."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from laformer import checkpoint
from laformer.attempts import Attempts
from laformer.batches import Array, to_tensor
from laformer.config import InferenceConfig
from laformer.errors import ModelError
from laformer.model import LAformer
from laformer.tiles import Grid, Network, Source, Span, restore_tiles

AUTO: Final = InferenceConfig()
"""The choice of those who made none."""

_ROWS = 256
"""Rows that are rounded at a time, so that the floats stay small."""


@dataclass(frozen=True, eq=False)
class Restoration:
    """A restored image, and the way it came about."""

    pixels: Array
    """(H * scale, W * scale, C) in the type of the image that was given."""
    how: str
    """For a reader: "whole", "tiles 512/64", "stripes, after running out of memory"."""


@dataclass(frozen=True)
class Restorer:
    """A network ready to restore: pixels in, pixels out, in the same type."""

    model: LAformer
    device: torch.device
    inference: InferenceConfig = AUTO
    """How an image is restored; `precision` has been applied to `model` already."""
    exact: LAformer | None = None
    """The network in float32 where `model` is in bfloat16: for what that makes no numbers of."""
    neighbours: int = 0
    """Other processes of this computer that restore at the same time: they share its memory."""

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str | None = None,
        inference: InferenceConfig = AUTO,
    ) -> "Restorer":
        """Load a checkpoint folder onto a device: CUDA when there is one, unless told otherwise.

        bfloat16 takes half the memory, and less time where the processor has it; sums, the last
        convolution and the image stay in float32.
        """
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        loaded = checkpoint.load_model(folder, chosen)
        model: LAformer = loaded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if inference.precision == "float32":
            return cls(model, chosen, inference)
        return cls(copy.deepcopy(model).to(torch.bfloat16), chosen, inference, exact=model)

    @property
    def scale(self) -> int:
        """Side of the restored image over that of the given one."""
        return self.model.config.scale

    def __call__(self, pixels: Array) -> Array:
        """Return the pixels of `restore`."""
        return self.restore(pixels).pixels

    def restore(self, pixels: Array) -> Restoration:
        """Restore (H, W, C) uint8, uint16 or float in units of the full range.

        Return (H * scale, W * scale, C) in the same dtype; integers are clipped and rounded,
        floats are not. A grey image (H, W, 1) passes a colour network as three equal channels
        whose mean is kept. Memory that runs out makes the parts smaller, and `how` says so.
        Raises ModelError when the result is not finite, or when no part is small enough.
        """
        if self.inference.context == "tiles":
            height, width = pixels.shape[:2]
            parts: list[Array] = []

            def source(top: int, left: int, height: int, width: int) -> Array:
                return pixels[top : top + height, left : left + width]

            shape = (height, width, pixels.shape[2])
            how = self.restore_parts(source, parts.append, shape)
            return Restoration(np.concatenate(parts), how)
        attempts = self._attempts()
        network = self._network(attempts, pixels.shape[2])
        with torch.inference_mode():
            restored = network(to_tensor(pixels, self.device))[0].permute(1, 2, 0)
        return Restoration(
            to_pixels(restored.cpu().numpy(), pixels.dtype),
            self._how(attempts.context_used, attempts),
        )

    def restore_parts(
        self,
        source: Source,
        sink: Callable[[Array], None],
        shape: tuple[int, int, int],
        rows: tuple[int, int] | None = None,
    ) -> str:
        """Restore an image (H, W, C) of any size in tiles, or rows of it; return how.

        `source` gives the pixels of a rectangle, `sink` takes the restored rows in order, in the
        same dtype: what is held is one row of tiles. `rows` are the first row of the given image
        whose restored rows are wanted, and the one after the last. Raises ModelError when another
        context than tiles was asked for by name.
        """
        height, width, channels = shape
        if self.inference.context in ("whole", "stripes"):
            raise ModelError(
                f"{width} x {height} pixels are too many to be held, and only tiles need not be; "
                f"use --context auto or tiles instead of {self.inference.context}"
            )
        attempts, asked = self._attempts(), self.inference
        network = self._network(attempts, channels)
        grid = Grid(
            height=height,
            width=width,
            tile_px=asked.tile_px,
            overlap_px=asked.overlap_px,
            scale=self.scale,
            wanted=Span(*rows) if rows else None,
        )
        dtype = source(0, 0, 1, 1).dtype
        restore_tiles(network, source, lambda part: sink(to_pixels(part, dtype)), grid, self.device)
        return self._how(f"tiles {asked.tile_px}/{asked.overlap_px}", attempts)

    def _attempts(self) -> Attempts:
        asked = self.inference
        return Attempts(
            self.model,
            self.exact,
            context=asked.context,
            memory_bytes=asked.memory_bytes,
            neighbours=self.neighbours,
        )

    def _network(self, network: Network, channels: int) -> Network:
        """Return what restores images of so many channels, as often as the ensemble wants."""
        wanted = self.model.config.in_channels
        grey = channels == 1 and wanted == 3
        if channels != wanted and not grey:
            raise ModelError(
                f"the image has {channels} channels but the model takes {wanted}; "
                "use a model of the same kind of image"
            )
        chosen = ensemble(network) if self.inference.ensemble else network
        return averaged(chosen) if grey else chosen

    def _how(self, context: str, attempts: Attempts) -> str:
        ensembled = ["mean of 8 turns"] if self.inference.ensemble else []
        return ", ".join([context, *ensembled, *attempts.notes])


def ensemble(network: Network) -> Network:
    """Return the mean over the eight flips and turns of an image, each turned back, in float32."""

    def mean(lq: Tensor) -> Tensor:
        total: Tensor | None = None
        for flipped in (False, True):
            for turns in range(4):
                turned = torch.rot90(lq.flip(3) if flipped else lq, turns, (2, 3))
                back = torch.rot90(network(turned.contiguous()), -turns, (2, 3))
                back = (back.flip(3) if flipped else back).float()
                total = back.clone() if total is None else total.add_(back)
        assert total is not None
        return total.div_(8)

    return mean


def averaged(network: Network) -> Network:
    """Return what passes grey through a colour network: repeated, and the mean taken."""

    def mean(lq: Tensor) -> Tensor:
        return network(lq.repeat(1, 3, 1, 1)).mean(dim=1, keepdim=True)

    return mean


def to_pixels(image: Array, dtype: np.dtype[Any]) -> Array:
    """Turn units of the full range into a pixel type: clip and round integers, keep floats."""
    if not np.issubdtype(dtype, np.integer):
        return image.astype(dtype)
    levels = np.empty(image.shape, dtype)
    for row in range(0, len(image), _ROWS):
        part = image[row : row + _ROWS].clip(0, 1) * np.iinfo(dtype).max
        levels[row : row + _ROWS] = np.rint(part)
    return levels
