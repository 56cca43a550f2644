"""The numbers and pictures of a run on their way to MLflow.

Training never waits for them. While MLflow is away they are kept and tried again, and sent in
their order when it is back; what is left when the run ends is a file of lines in its folder, which
the same run sends when it is continued. A number carries the time at which it was found: sent
twice it is recorded once, and of two numbers of one step the later counts.
"""

import base64
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs import place
from jobs.backlog import Backlog, Line, Sender
from jobs.tracking import Point, Tracker
from pipelines import images, storage
from pipelines.errors import DataError
from pipelines.images import Photo

UNSENT_FILE = "unsent.jsonl"
"""Beside the checkpoints of a run: what MLflow has not taken, a line each."""
MOST_NUMBERS_BYTES, MOST_PICTURES_BYTES = 16 << 20, 64 << 20
"""What may wait, as lines: some 50,000 logs of ten numbers, 100 pictures. Then the oldest go."""
NUMBERS_AT_ONCE = 100
"""Logs that are sent together."""
CLOSE_S = 60.0
"""Longest wait at the end of a run for a server that is slow."""

Array = np.ndarray[Any, Any]
Tell = Callable[[str], None]
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MlflowObserver:
    """Makes the observer of a worker: a value that can be pickled."""

    uri: str = field(repr=False)  # it may hold a password
    run_id: str
    folder: str | None = None
    """uri of the run's folder; without one, what is unsent at the end is lost."""
    tell: Tell = LOG.warning
    """Tells the user."""

    def __call__(self) -> "RunRecorder":
        """Connect, inside the worker, and begin with what was not sent before."""
        return RunRecorder(self)

    @property
    def unsent(self) -> str | None:
        """Return the uri of the lines that an earlier part of the run could not send."""
        return storage.join(self.folder, UNSENT_FILE) if self.folder else None

    def catch_up(self) -> None:
        """Send what an earlier part of the run could not, if there is anything."""
        if self.unsent and storage.exists(self.unsent):
            self().close()


class RunRecorder:
    """Records a run from threads of its own, one for numbers and one for pictures.

    A store of files that refuses pictures holds up no number.
    """

    def __init__(self, settings: MlflowObserver) -> None:
        self.settings, self.run_id = settings, settings.run_id
        self.tracker = Tracker(settings.uri)
        self.told, self.keeping = False, threading.Lock()
        self.numbers = Sender(
            self._send_numbers,
            Backlog(MOST_NUMBERS_BYTES),
            most=NUMBERS_AT_ONCE,
            away=self._away,
            back=self._back,
        )
        self.pictures = Sender(
            self._send_picture,
            Backlog(MOST_PICTURES_BYTES),
            most=1,
            away=self._away,
            back=self._back,
        )
        self.senders = (self.numbers, self.pictures)
        earlier = self._earlier()
        self.stored = bool(earlier)
        for line in earlier:
            (self.pictures if "png" in line else self.numbers).backlog.add(line)
        for sender in self.senders:
            sender.thread.start()

    @property
    def lost(self) -> int:
        """Return the logs and pictures that MLflow will not take or that had no room."""
        return sum(sender.rejected + sender.backlog.dropped for sender in self.senders)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Record numbers of a step."""
        values = {name: float(value) for name, value in metrics.items()}
        now_ms = int(time.time() * 1000)
        self.numbers.backlog.add({"step": step, "time_ms": now_ms, "values": values})

    def picture(self, step: int, name: str, pixels: Array) -> None:
        """Record a picture (H, W, 3) uint8."""
        png = images.encode(Photo(pixels=pixels), ".png")
        self.pictures.backlog.add(
            {"step": step, "picture": name, "png": base64.b64encode(png).decode()}
        )

    def close(self) -> None:
        """Wait until everything is recorded, but not for a server that is away: keep it then."""
        deadline = time.monotonic() + CLOSE_S
        for sender in self.senders:
            sender.close()
        for sender in self.senders:
            sender.thread.join(max(0.0, deadline - time.monotonic()))
        num = self._keep()
        if self.lost:
            self.settings.tell(
                f"warning: {self.lost} logs or pictures are not in MLflow: it does not take them, "
                "or was away for too long"
            )
        if num:
            where = f"wait in {self.settings.unsent}; the same command again sends them"
            self.settings.tell(
                f"warning: {num} logs or pictures have not reached MLflow: they "
                f"{where if self.stored else 'are lost'}"
            )

    def _away(self, error: Exception) -> None:
        """Tell it once, and keep what waits: a worker may be killed before MLflow is back."""
        if not self.told:
            self.told = True
            self.settings.tell(
                f"warning: {error}; training goes on, and what it records waits until then"
            )
        self._keep()

    def _back(self) -> None:
        if self.told and not any(sender.is_away for sender in self.senders):
            self.told = False
            shown = place.without_secret(self.settings.uri)
            self.settings.tell(f"MLflow at {shown} takes what was recorded again")

    def _send_numbers(self, lines: list[Line]) -> None:
        points = [
            Point(name, value, line["time_ms"], line["step"])
            for line in lines
            for name, value in line["values"].items()
        ]
        self.tracker.points(self.run_id, points)

    def _send_picture(self, lines: list[Line]) -> None:
        for line in lines:
            png = base64.b64decode(line["png"])
            self.tracker.picture(self.run_id, line["step"], line["picture"], png)

    def _earlier(self) -> list[Line]:
        """Return what an earlier part of the run could not send."""
        uri = self.settings.unsent
        try:
            if uri is None or not storage.exists(uri):
                return []
            return [json.loads(line) for line in storage.get(uri).splitlines()]
        except (DataError, ValueError) as error:
            self.settings.tell(f"warning: the numbers in {uri} are not sent: {error}")
            return []

    def _keep(self) -> int:
        """Write what is unsent to the run's folder, or remove the file; return how much it is."""
        with self.keeping:
            lines = [line for sender in self.senders for line in sender.backlog.waiting()]
            uri = self.settings.unsent
            try:
                if lines and uri:
                    storage.put(uri, "".join(f"{line}\n" for line in lines).encode())
                elif self.stored and uri:
                    storage.delete(uri)
                self.stored = bool(lines and uri)
            except DataError as error:
                LOG.warning("%s", error)
            return len(lines)
