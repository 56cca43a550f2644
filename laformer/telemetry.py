"""What a training process takes of its machine."""

import resource
import sys

import torch

MEGABYTE = 10**6
RSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts the largest resident set: getrusage(2)."""


def peak_memory_mb(device: torch.device) -> tuple[float, float]:
    """Return the most memory this process has had so far, in MB: of the machine, of its GPU.

    Of the machine it is the largest resident set, objects that Ray shares among processes
    included; of the GPU what torch reserved, and 0 without one.
    """
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    reserved = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    return resident / MEGABYTE, reserved / MEGABYTE
