"""Joining or starting Ray, once, and knowing what it has."""

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private import ray_constants

from jobs.errors import JobError
from pipelines.restoration import MOST_THREADS, THREADS, Pool

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # the jobs show their own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's core would write warnings about Ray Data's own actors into the user's terminal.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
RECYCLE = {
    # Training allocates the same large buffers at every step. glibc would return them to the
    # system and fault their pages in again, page by page.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 28),
}

ALONE = {
    # Nobody takes the only host away: one process less at every start of the workers.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


ONLY_HERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch, by default off on those two systems: whether a node has an address for others."""


@dataclass(frozen=True)
class Cluster:
    """What a job may count on."""

    num_cpus: int
    """Cores of the machine, or logical CPUs of the cluster."""
    num_gpus: int
    """GPUs of the cluster."""
    is_local: bool
    """Whether it was started for this job, on this machine."""
    num_nodes: int = 1
    """Hosts that are alive."""
    store_bytes: int = 2**62
    """Bytes of the object stores of all hosts."""

    def num_workers(self, wanted: int | None, *global_batches: int, accumulate: int = 1) -> int:
        """Return the number of training workers: one per GPU, or two where there is none.

        It divides each of the `accumulate` parts of the global batch of every stage, and leaves
        the stream that feeds them a core. Raises JobError when what is asked for does not.
        """
        device = "GPUs" if self.num_gpus else "CPUs"
        most = self.num_gpus or (self.num_cpus if self.is_local else self.num_cpus - 1)
        if wanted is None:
            most = max(1, self.num_gpus or min(2, most))
            common = math.gcd(*global_batches)
            return max(n for n in range(1, most + 1) if common % (n * accumulate) == 0)
        if wanted > most:
            raise JobError(
                f"workers {wanted} are more than the {most} {device} they may take; "
                f"use at most {most}"
            )
        for global_batch in global_batches:
            if global_batch % (wanted * accumulate):
                parts = f" in {accumulate} parts" if accumulate > 1 else ""
                raise JobError(
                    f"global batch {global_batch}{parts} does not divide among {wanted} workers; "
                    f"use a multiple of {wanted * accumulate}"
                )
        return wanted

    def require_shared(self, *uris: str) -> None:
        """Raise JobError for a place on one host's disk when there are several hosts.

        LAFORMER_SHARED_DISK=1 says that every host sees the same disk.
        """
        if self.num_nodes == 1 or os.environ.get("LAFORMER_SHARED_DISK") == "1":
            return
        for uri in uris:
            if uri.startswith("sqlite") or not ("://" in uri and not uri.startswith("file://")):
                raise JobError(
                    f"{uri} is on the disk of one host but the cluster has {self.num_nodes}; use a "
                    "bucket, and an MLflow server, or set LAFORMER_SHARED_DISK=1 if all hosts "
                    "see the same disk"
                )

    def pool(self, wanted: int | None = None, most: int | None = None) -> Pool:
        """Return the actors of a stream: one per GPU, or one per two cores where there is none."""
        actors = wanted or self.num_gpus or max(1, self.num_cpus // 2)
        actors = min(actors, most or actors)
        if not self.num_gpus:
            return Pool(actors=actors)
        threads = min(MOST_THREADS, max(THREADS, self.num_cpus // actors))
        return Pool(actors=actors, gpus_per_actor=min(1.0, self.num_gpus / actors), threads=threads)

    def threads(self, num_workers: int) -> int:
        """Return the torch threads of one of several workers on a machine without GPU."""
        return max(1, self.num_cpus // num_workers) if self.is_local else 1


@contextmanager
def connected() -> Iterator[Cluster]:
    """Join the cluster at RAY_ADDRESS or start one on this machine, and leave it as it was found.

    Inside another `connected` the same cluster is used. Raises JobError when none answers.
    """
    if ray.is_initialized():
        yield _describe()
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise JobError(
                f"no Ray cluster answers at RAY_ADDRESS {address}; "
                "start one, or unset it to use this machine"
            ) from error
    else:
        _start()
    try:
        yield _describe()
    finally:
        ray.shutdown()


def _start() -> None:
    """Start Ray on this machine, for this process."""
    for name, value in (QUIET | RECYCLE | ALONE).items():
        os.environ.setdefault(name, value)
    cores = os.cpu_count() or 1
    with unreachable(), hushed():
        ray.init(
            address="local",
            # Training workers and the stream that feeds them share the cores: were only the cores
            # offered, the workers would take them all and the stream would wait for ever.
            num_cpus=2 * max(2, cores),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )


@contextmanager
def unreachable() -> Iterator[None]:
    """Let a Ray that is started while the body runs listen on loopback alone.

    Its agents, raylet and workers otherwise listen on all addresses of the host.
    """
    before, enabled = os.environ.get(ONLY_HERE), ray_constants.ENABLE_RAY_CLUSTER
    # For the processes that are started; this one has read it when it imported Ray.
    os.environ[ONLY_HERE], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
        if before is None:
            del os.environ[ONLY_HERE]
        else:
            os.environ[ONLY_HERE] = before


@contextmanager
def hushed() -> Iterator[None]:
    """Keep what C++ code writes to stderr while the body runs, and show it only if that fails."""
    saved = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _describe() -> Cluster:
    found = ray.cluster_resources()
    is_local = not os.environ.get("RAY_ADDRESS")
    return Cluster(
        num_cpus=(os.cpu_count() or 1) if is_local else int(found.get("CPU", 1)),
        num_gpus=int(found.get("GPU", 0)),
        is_local=is_local,
        num_nodes=sum(node["Alive"] for node in ray.nodes()),
        store_bytes=int(found.get("object_store_memory", 2**62)),
    )
