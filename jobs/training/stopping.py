"""Signals that ask a command to stop: all become KeyboardInterrupt, which `jobs.cli` explains."""

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.console import say

GRACE_S = 25.0
"""Longest wait for work that was asked to end: Kubernetes and Slurm kill after 30 s."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(ask: Callable[[], None] | None = None) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM `ask` the body to end, and raise KeyboardInterrupt then.

    A second one, a body that does not end in time, or one that cannot be asked is interrupted.
    Ray's core would turn SIGTERM into an abort with a stack of C++. Handlers are put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, over = threading.Event(), threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set() or ask is None:
            raise KeyboardInterrupt
        asked.set()

    def wait() -> None:
        asked.wait()
        if over.is_set() or ask is None:
            return
        say("stopping: the workers save first; once more stops at once")
        ask()
        if not over.wait(GRACE_S):
            _thread.interrupt_main()

    waiter = threading.Thread(target=wait, name="stopping", daemon=True)
    waiter.start()
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
        if asked.is_set():
            raise KeyboardInterrupt
    finally:
        for number, handler in before.items():
            # None stands for a handler of C, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        over.set()
        asked.set()
        waiter.join()
