"""What waits for a service that may be away: kept in order up to a bound, tried again and again."""

import json
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from jobs.errors import JobError, UnavailableError

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Between two attempts: the wait doubles from the first to the longest."""

Line = dict[str, Any]
"""JSON: what is sent, complete in itself."""


class Backlog:
    """Lines that wait, the oldest first. Beyond `most_bytes` the oldest are given up."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.lines: deque[str] = deque()
        self.num_bytes = self.gone = self.dropped = 0
        self.closed = False
        self.changed = threading.Condition()

    def add(self, line: Line) -> None:
        """Let a line wait; it is never refused."""
        text = json.dumps(line)
        with self.changed:
            self.lines.append(text)
            self.num_bytes += len(text)
            while self.num_bytes > self.most_bytes and len(self.lines) > 1:
                self._pop()
                self.dropped += 1
            self.changed.notify_all()

    def first(self, most: int) -> tuple[int, list[Line]]:
        """Return the oldest lines as soon as there are any, and what `remove` wants to hear.

        None when the backlog is closed and empty.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.lines or self.closed)
            taken = [self.lines[place] for place in range(min(most, len(self.lines)))]
            return self.gone + len(taken), [json.loads(text) for text in taken]

    def remove(self, upto: int) -> None:
        """Forget lines that `first` has returned, unless they were given up since."""
        with self.changed:
            while self.gone < upto:
                self._pop()

    def waiting(self) -> list[str]:
        """Return every line, the oldest first."""
        with self.changed:
            return list(self.lines)

    def close(self) -> None:
        """Let `first` return at once from now on."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def _pop(self) -> None:
        self.num_bytes -= len(self.lines.popleft())
        self.gone += 1


class Sender:
    """Sends a backlog in order from a thread of its own, and again what did not arrive.

    `send` raises an UnavailableError, or any error that is no JobError, where another attempt may
    help. What raises another JobError is never taken: it is left out, alone.
    """

    def __init__(
        self,
        send: Callable[[list[Line]], None],
        backlog: Backlog,
        *,
        most: int,
        away: Callable[[Exception], None],
        back: Callable[[], None],
    ) -> None:
        self.send, self.backlog, self.most = send, backlog, most
        self.tell_away, self.tell_back = away, back
        self.rejected, self.is_away = 0, False
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._run, name="tracking", daemon=True)

    def close(self) -> None:
        """End the thread when all is sent, or the next attempt fails."""
        self.backlog.close()
        self.closing.set()

    def _run(self) -> None:
        wait_s, most = FIRST_WAIT_S, self.most
        while True:
            upto, lines = self.backlog.first(most)
            if not lines:
                return
            try:
                self.send(lines)
            except Exception as error:  # noqa: BLE001 - whatever ails it, training goes on
                if isinstance(error, JobError) and not isinstance(error, UnavailableError):
                    most = 1  # to find out which
                    if len(lines) == 1:
                        self.rejected += 1
                        self.backlog.remove(upto)
                    continue
                over = self.closing.is_set()
                self.is_away = True
                self.tell_away(error)
                if over:
                    return
                self.closing.wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                self.backlog.remove(upto)
                wait_s, most = FIRST_WAIT_S, self.most
                if self.is_away:
                    self.is_away = False
                    self.tell_back()
