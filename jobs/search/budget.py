"""What a search takes and what a cluster has, added up before anything starts."""

import math
from dataclasses import dataclass

from jobs.cluster import Cluster
from jobs.errors import JobError

DRIVER_CPUS = 1
"""Of a trial with training workers of its own: what drives them."""
STREAM_CPUS = 1
"""Of a trial with workers: its stream. Of all small trials together: what decodes for them."""


@dataclass(frozen=True)
class Ask:
    """What a search asks for."""

    workers: int
    """Training workers of a trial; 1 is a small trial, which trains in a process of its own."""
    concurrent: int | None = None
    """Trials at the same time; as many as there is room for when None."""
    most: int = 1
    """Trials that there are to run at all."""


@dataclass(frozen=True)
class Slots:
    """Room for trials."""

    concurrent: int
    """Trials at the same time."""
    cpus: float
    """CPUs that Ray keeps for one trial of one process; 0 for one whose workers ask themselves."""
    gpus: float
    """GPUs that Ray keeps for one such trial."""
    arithmetic: str
    """How many of what make that many, in words."""


def slots(ask: Ask, cluster: Cluster, num_cpus: int) -> Slots:
    """Return the room for trials; `num_cpus` are those that Ray hands out.

    Raises JobError with the arithmetic when not one trial fits, or not as many as were asked for:
    Ray would wait for ever.
    """
    gpus = ask.workers if cluster.num_gpus else 0
    if ask.workers == 1:
        cpus, shared = 1, STREAM_CPUS
    else:
        # Beside a GPU a worker asks for no CPU.
        cpus = DRIVER_CPUS + STREAM_CPUS + (0 if gpus else ask.workers)
        shared = 0
    room = (num_cpus - shared) // cpus
    if gpus:
        room = min(room, cluster.num_gpus // gpus)
    elif cluster.is_local:
        # Ray is told of more CPUs than there are cores (`jobs.cluster`).
        room = min(room, max(1, cluster.num_cpus // ask.workers))
    needs = f"a trial takes {_count(gpus, 'GPU')}{_count(cpus, 'CPU')} ({_parts(ask, gpus)})"
    needs += f", all share {shared} CPU that decodes" if shared else ""
    has = f"the cluster has {cluster.num_gpus} GPUs and {num_cpus} CPUs"
    if room < 1:
        raise JobError(
            f"no trial fits: {needs}; {has}; use --workers {_most_workers(cluster, num_cpus)} "
            "or a larger cluster"
        )
    if ask.concurrent is not None and ask.concurrent > room:
        raise JobError(
            f"{ask.concurrent} trials at a time do not fit: {needs}, "
            f"{ask.concurrent} take {_count(gpus * ask.concurrent, 'GPU')}"
            f"{_count(cpus * ask.concurrent + shared, 'CPU')}; {has}; use --concurrent {room}"
        )
    concurrent = min(ask.concurrent or room, max(1, ask.most))
    said = f"{needs}; {has}: {concurrent} at a time"
    if ask.workers > 1:
        return Slots(concurrent, DRIVER_CPUS, 0, said)
    # So large that no more than these run at a time, also where trials wait for each other.
    share = max(1.0, math.floor(100 * (num_cpus - shared) / concurrent) / 100)
    return Slots(concurrent, 1 if gpus else share, gpus, said)


def _count(num: int, what: str) -> str:
    """Say a count before what follows it: "2 GPUs and ", "3 CPUs"."""
    if what == "GPU":
        return f"{num} GPU{'s' * (num > 1)} and " if num else ""
    return f"{num} CPU{'s' * (num > 1)}"


def _parts(ask: Ask, gpus: int) -> str:
    if ask.workers == 1:
        return "one process"
    each = "on a GPU each" if gpus else "of 1 CPU each"
    return f"{ask.workers} workers {each}, 1 CPU that drives them, 1 for their stream"


def _most_workers(cluster: Cluster, num_cpus: int) -> int:
    """Return the largest number of workers of which one trial fits; 1 asks for least."""
    if cluster.num_gpus:
        return max(1, cluster.num_gpus if num_cpus >= DRIVER_CPUS + STREAM_CPUS else 1)
    return max(1, num_cpus - DRIVER_CPUS - STREAM_CPUS)
