"""Degradations: one small file each, callable values (gt, rng) -> lq."""

from pipelines.degradations.gaussian_noise import GaussianNoise
from pipelines.degradations.jpeg import Jpeg

__all__ = ["GaussianNoise", "Jpeg"]
