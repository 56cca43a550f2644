"""An actor of the restoration with `tiny` of random weights, and photos for it."""

from pathlib import Path

import numpy as np
import torch

from laformer import checkpoint
from laformer.config import SIZES, InferenceConfig, TrainConfig
from laformer.loop import State
from laformer.model import LAformer
from laformer.restore import Restorer
from pipelines import images
from pipelines.images import Photo

CORES = 2


def save(folder):
    """Write a checkpoint of random weights."""
    torch.manual_seed(0)
    train = TrainConfig(steps=1, global_batch=1, patch_px=64, warmup_steps=0, flat_steps=0)
    checkpoint.save(folder, State.create(LAformer(SIZES["tiny"]), train), {})


class Load:
    """Loads the network in an actor."""

    def __init__(self, folder, **inference):
        self.folder, self.inference = str(folder), inference

    def __call__(self):
        torch.set_num_threads(CORES)
        restorer = Restorer.load(Path(self.folder), inference=InferenceConfig(**self.inference))

        def restore(pixels):
            made = restorer.restore(pixels)
            return made.pixels, made.how

        return restore


def photo(rng, height, width):
    """Return pixels that are smooth but for their noise, as those of photos are."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = np.sin(rows / 37)[..., None] + np.cos(columns / 53)[..., None]
    levels = 128 + 50 * waves + rng.normal(0, 4, (height, width, 3)).astype(np.float32)
    return levels.clip(0, 255).astype(np.uint8)


def png(pixels):
    """Return pixels as a file."""
    return images.encode(Photo(pixels=pixels), ".png")
