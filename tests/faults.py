"""What happens to training workers in tests; workers import it by name."""

import os
import signal
import threading
import time
from pathlib import Path

from laformer import worker
from laformer.errors import TrainingError

SAMPLES = "samples of rank "
"""Files beside the checkpoints: a line a step, with time, step, number of workers, sample ids."""
PAUSE_S = 0.05


def once(job, name):
    """Tell whether this is the first time in the run."""
    marker = Path(job.shelf.uri) / name
    if marker.exists():
        return False
    marker.touch()
    return True


def harmed(config):
    """Train, but kill rank 1 after step 10 and let rank 0 hang after step 22, each once.

    It hangs for a tenth of the time that the job allows: a start may take long, this must not.
    """

    def harm(self, step):
        if step == 10 and self.rank == 1 and once(self.job, "killed"):
            while 8 not in self.job.shelf.complete():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if step == 22 and self.rank == 0 and once(self.job, "hung"):
            self.watchdog.limit_s /= 10
            self.watchdog.beat()
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


def recorded(config):
    """Train slowly, and keep which worker of how many did which step on which samples."""

    def record(self, step, result):
        ids = " ".join(map(str, result.sample_ids.tolist()))
        with (record_folder(self.job) / f"{SAMPLES}{self.rank}").open("a") as file:
            file.write(f"{time.time():.2f} {step - 1} {self.size} {ids}\n")
        time.sleep(PAUSE_S)

    # Before: it is done, though the worker may leave its host right after it.
    watched(config, before=record)


def record_folder(job):
    """Return where the record of a run is kept: LAFORMER_RECORD is a disk that all hosts see."""
    folder = Path(os.environ.get("LAFORMER_RECORD", job.shelf.uri))
    if "LAFORMER_RECORD" in os.environ:
        folder /= job.shelf.uri.rpartition("/")[2]
        folder.mkdir(exist_ok=True)
    return folder


def train(config, harm):
    watched(config, after=lambda self, step, _: harm(self, step))


def watched(config, before=lambda *_: None, after=lambda *_: None):
    """Train, and look at every step before and after what follows it."""
    after_step = worker.Worker._after_step

    def looked_at(self, state, result):
        before(self, state.step, result)
        after_step(self, state, result)
        after(self, state.step, result)

    worker.Worker._after_step = looked_at
    worker.train_worker(config)
