"""What a training run tells of itself, the kill of its first worker, and the numbers of both."""

import itertools
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Diary:
    """Writes what rank 0 tells, with time and process, a line of JSON each."""

    path: str

    def __call__(self):
        return self

    def log(self, step, metrics):
        line = {"step": step, "at": time.time(), "pid": os.getpid()} | metrics
        with Path(self.path).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def picture(self, step, name, pixels):
        pass

    def close(self):
        pass

    def lines(self):
        path = Path(self.path)
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


class Fed(NamedTuple):
    """What a run by Ray did."""

    steps_per_s: float
    """Between checkpoints."""
    data_wait_fraction: float
    checkpoint_s: float
    """What one takes from training."""
    restart_s: float | None
    """From the death of a worker to the next steps that are logged; None if none died."""
    worker_mb: float
    """Largest resident set of a training worker."""


class Killer(threading.Thread):
    """Kills rank 0 as it logs a step, if one is given; looks how large it is until then."""

    def __init__(self, diary, step):
        super().__init__(daemon=True)
        self.diary, self.step = diary, step
        self.killed_at, self.peak_mb, self.done = 0.0, 0.0, False

    def run(self):
        while not self.killed_at and not self.done:
            time.sleep(0.2)
            for line in self.diary.lines()[-1:]:
                if not (process := Path(f"/proc/{line['pid']}/status")).exists():
                    return
                status = process.read_text()
                for peak in (each for each in status.splitlines() if each.startswith("VmHWM")):
                    self.peak_mb = int(peak.split()[1]) / 1024
                if self.step is not None and line["step"] >= self.step:
                    self.killed_at = time.time()
                    os.kill(line["pid"], signal.SIGKILL)


def fed(case, lines, killer):
    """Return the numbers of a run from its diary."""
    logs = [line for line in lines if "data_wait_fraction" in line]
    pid = logs[0]["pid"]
    before = [line for line in logs if line["pid"] == pid]
    # The first interval is that of the first samples.
    pairs = list(itertools.pairwise(before))
    plain, saving = [], []
    for first, second in pairs:
        saved = first["step"] % case.checkpoint_every == 0
        (saving if saved else plain).append(second["at"] - first["at"])
    interval_s = sum(plain) / len(plain)
    again = next((line["at"] for line in logs if line["pid"] != pid), None)
    return Fed(
        steps_per_s=(before[1]["step"] - before[0]["step"]) / interval_s,
        data_wait_fraction=sum(line["data_wait_fraction"] for line in before[1:]) / len(pairs),
        checkpoint_s=max(0.0, sum(saving) / len(saving) - interval_s),
        restart_s=again and round(again - killer.killed_at, 1),
        worker_mb=killer.peak_mb,
    )
