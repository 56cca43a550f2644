"""Restoring one image with a released network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laformer import checkpoint
from laformer.batches import Array, to_tensor
from laformer.errors import ModelError
from laformer.memory import free_bytes
from laformer.model import LAformer
from laformer.stripes import restore_within


@dataclass(frozen=True)
class Restorer:
    """A network ready to restore: pixels in, pixels out, in the same type."""

    model: LAformer
    device: torch.device
    memory_bytes: int | None = None
    """Budget for one image beside the weights; half of what the device has free when not given."""

    @classmethod
    def load(
        cls, folder: Path, device: str | None = None, dtype: torch.dtype = torch.float32
    ) -> "Restorer":
        """Load a checkpoint folder onto a device: CUDA when there is one, unless told otherwise.

        bfloat16 takes half the memory, and less time where the processor has it; sums, the last
        convolution and the image stay in float32.
        """
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = checkpoint.load_model(folder, chosen).to(dtype)
        channels_last = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(channels_last, chosen)

    def __call__(self, pixels: Array) -> Array:
        """Restore (H, W, C) uint8, uint16 or float in units of the full range.

        Return (H * scale, W * scale, C) in the same dtype; integers are clipped and rounded,
        floats are not. A grey image (H, W, 1) passes a colour network as three equal channels
        whose mean is kept. Raises ModelError when the result is not finite.
        """
        wanted = self.model.config.in_channels
        grey = pixels.shape[2] == 1 and wanted == 3
        lq = np.repeat(pixels, 3, axis=2) if grey else pixels
        if lq.shape[2] != wanted:
            raise ModelError(
                f"the image has {lq.shape[2]} channels but the model takes {wanted}; "
                "use a model of the same kind of image"
            )
        with torch.inference_mode():
            budget = self.memory_bytes or free_bytes(self.device) // 2
            whole = restore_within(self.model, to_tensor(lq, self.device), budget)
            restored = whole[0].permute(1, 2, 0)
        out = restored.mean(dim=2, keepdim=True) if grey else restored
        if not torch.isfinite(out).all():
            raise ModelError("the restored image has values that are no numbers; nothing written")
        return to_pixels(out.cpu().numpy(), pixels.dtype)


def to_pixels(image: Array, dtype: np.dtype[Any]) -> Array:
    """Turn units of the full range into a pixel type: clip and round integers, keep floats."""
    if not np.issubdtype(dtype, np.integer):
        return image.astype(dtype)
    levels: Array = np.rint(image.clip(0, 1) * np.iinfo(dtype).max)
    return levels.astype(dtype)
