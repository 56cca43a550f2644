"""Ends a worker that stands still, so that it is started again instead of waited for."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

START_FACTOR = 3
"""Until the first step, which compiles and waits for the stream, so many times as long is given."""


class Watchdog:
    """Counts the seconds since the last sign of progress, in a thread of its own."""

    def __init__(
        self, limit_s: float, tell: Callable[[str], None], end: Callable[[], None] | None = None
    ) -> None:
        self.limit_s, self.tell, self.end = limit_s, tell, end or end_process
        self.given_s = START_FACTOR * limit_s
        self.due_s = time.monotonic() + self.given_s
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.thread.start()

    def beat(self) -> None:
        """Note progress: a finished step, a validated image."""
        self.given_s = self.limit_s
        self.due_s = time.monotonic() + self.given_s

    def stop(self) -> None:
        """Watch no longer."""
        self.stopped.set()
        self.thread.join()

    def _run(self) -> None:
        # A stuck step has let go of Python's lock: it waits for a device, a peer or the stream.
        while not self.stopped.wait(max(0.01, min(1.0, self.due_s - time.monotonic()))):
            if time.monotonic() > self.due_s:
                self.tell(
                    f"made no progress for {self.given_s:g} s and is ended; "
                    "the stacks of its threads are in its log"
                )
                self.end()
                return


def end_process() -> None:
    """Write the stacks of all threads to the log of this process and end it at once."""
    print("no progress: the stacks of all threads follow", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.__stderr__ or sys.stderr, all_threads=True)
    os._exit(70)
