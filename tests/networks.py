"""A network small enough for every test, and batches for it."""

import numpy as np
import torch

from laformer.batches import to_batch
from laformer.config import ModelConfig, TrainConfig
from laformer.loop import State
from laformer.model import LAformer

MODEL = ModelConfig(dim=8, head_dim=4, blocks=(1, 1, 1, 1), refinement=1, expansion=1.5)


def config(**options):
    defaults = {"steps": 4, "global_batch": 2, "patch_px": 16, "warmup_steps": 1, "flat_steps": 0}
    return TrainConfig(**(defaults | options))


def state(train, seed=0):
    torch.manual_seed(seed)
    return State.create(LAformer(MODEL), train)


def batches(num, seed=0):
    rng = np.random.default_rng(seed)
    return [
        to_batch(
            {
                "sample_id": np.arange(2 * i, 2 * i + 2),
                "lq": rng.random((2, 16, 16, 3), dtype=np.float32).astype(np.float16),
                "gt": rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8),
            }
        )
        for i in range(num)
    ]
