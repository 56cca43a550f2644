"""Small actors on this host that remote work writes to, and a thread here that looks at them."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_S = 0.5
ANSWER_S = 5.0
"""Longest wait for one answer: the cluster of the actor may be gone."""


def here(actor: type) -> Any:
    """Return an actor class that runs on this host: the hosts of workers come and go."""
    # Not soft: Ray then starts it elsewhere at times, and it is gone with that host.
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=node)(actor)


@contextmanager
def watched(
    name: str, ask: Callable[[], ray.ObjectRef], take: Callable[[Any], None]
) -> Iterator[None]:
    """Hand over what an actor answers every now and then while the body runs, and after it."""
    done = threading.Event()

    def watch() -> None:
        over = False
        while not over:
            over = done.wait(POLL_S)
            # A busy machine starts an actor late, and loses touch with it while a host dies.
            with suppress(RayError):
                take(ray.get(ask(), timeout=ANSWER_S))

    watcher = threading.Thread(target=watch, name=name, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
