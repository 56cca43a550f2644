import numpy as np
import torch

from laformer.telemetry import peak_memory_mb


def test_the_peak_stays_when_the_memory_is_freed():
    before, gpu = peak_memory_mb(torch.device("cpu"))
    block = np.ones(int(2 * before * 1e6) // 8)
    del block
    after, _ = peak_memory_mb(torch.device("cpu"))
    assert after > 1.8 * before
    assert gpu == 0
