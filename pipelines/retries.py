"""How often storage had to be asked again, where Prometheus can scrape it."""

import functools
import sys
from typing import Any

NAME = "laformer_storage_retries"
"""Ray puts `ray_` before it and `_total` behind, and says which host it counts."""


def count() -> None:
    """Count one more attempt. Without a Ray there is nobody who could ask for the number."""
    ray = sys.modules.get("ray")  # its import takes seconds, which a plain `get` does not cost
    if ray is not None and ray.is_initialized():
        _counter().inc()


@functools.cache
def _counter() -> Any:
    from ray.util import metrics  # noqa: PLC0415

    return metrics.Counter(NAME, description="Requests to storage that were made again.")
