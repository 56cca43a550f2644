"""The learning rate as a pure function of the step."""

import math

from laformer.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, flat, cosine to `final_lr`."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay_start = config.warmup_steps + config.flat_steps
    progress = (step - decay_start) / max(1, config.steps - decay_start)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
    return warm * (config.final_lr + (config.lr - config.final_lr) * cosine)
