"""Signals that ask a command to stop: all become KeyboardInterrupt, which `jobs.cli` explains."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt out of the body.

    Ray's core turns SIGTERM into an abort with a stack of C++, and Ray Train's own handler leaves
    with SystemExit once it has stopped the workers. Handlers are put back as they were: Ray
    Train's would stay for the rest of the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGINT: signal.getsignal(signal.SIGINT),
        signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt),
    }
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            # None stands for a handler of C, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
