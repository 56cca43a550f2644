"""Degradations: one small file each, callable values (gt, rng) -> lq."""

from pipelines.degradations.gaussian_noise import GaussianNoise

__all__ = ["GaussianNoise"]
