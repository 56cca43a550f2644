"""How Ray Data runs our streams: a sealed context of their own, so that no setting leaks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.data import DataContext


@contextmanager
def streaming(*, preserve_order: bool = False, **options: Any) -> Iterator[None]:
    """Make datasets inside the body with these fields of `DataContext`.

    Ray Data's own bars and console lines are off: the jobs show progress in the user's terms, and
    everything is still written to `ray-data.log` of the session.
    """
    for handler in logging.getLogger("ray.data").handlers:
        # Only Ray's own: whoever listens for tests or for a log of their own goes on hearing.
        if type(handler).__module__.startswith("ray.") and isinstance(
            handler, logging.StreamHandler
        ):
            handler.setLevel(logging.CRITICAL)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = preserve_order
    for name, value in options.items():
        if not hasattr(context, name):
            raise AttributeError(f"DataContext has no field {name!r}")
        setattr(context, name, value)
    with DataContext.current(context):
        yield
