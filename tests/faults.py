"""What happens to training workers in tests; workers import it by name."""

import os
import signal
import threading
import time
from pathlib import Path

from laformer import worker
from laformer.errors import TrainingError


def once(job, name):
    """Tell whether this is the first time in the run."""
    marker = Path(job.shelf.uri) / name
    if marker.exists():
        return False
    marker.touch()
    return True


def harmed(config):
    """Train, but kill rank 1 after step 10 and let rank 0 hang after step 22, each once."""

    def harm(self, step):
        if step == 10 and self.rank == 1 and once(self.job, "killed"):
            while 8 not in self.job.shelf.complete():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 22 and self.rank == 0 and once(self.job, "hung"):
            threading.Event().wait()

    train(config, harm)


def diverging(config):
    """Train, but find at step 3 that rank 1 has no numbers."""
    job, rank = config["job"], worker.ray.train.get_context().get_world_rank()
    with (Path(job.shelf.uri) / f"starts of rank {rank}").open("a") as file:
        file.write("x")

    def harm(self, step):
        if step == 3 and self.rank == 1:
            raise TrainingError("the loss before step 3 is nan; lower lr")

    train(config, harm)


def train(config, harm):
    after_step = worker.Worker._after_step

    def harmful(self, state, result):
        after_step(self, state, result)
        harm(self, state.step)

    worker.Worker._after_step = harmful
    worker.train_worker(config)
