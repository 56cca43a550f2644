"""The training command around the workers."""

import signal
import threading
import time

import pytest
from ray.train import ControllerError

from jobs import train
from jobs.training import stopping
from laformer.errors import TrainingError


class Trainer:
    def __init__(self, error):
        self.error = error

    def fit(self):
        if self.error is not None:
            raise self.error


def test_what_ended_a_run_is_raised_as_it_was():
    with pytest.raises(TrainingError, match="the loss is nan"):
        train.wait_for(Trainer(ControllerError(TrainingError("the loss is nan"))), print)


class Working:
    """Works until it is asked to end, or for ever."""

    def __init__(self, *signals, heeds=True):
        self.signals, self.heeds, self.asked = signals, heeds, threading.Event()

    def fit(self):
        for number in self.signals:
            signal.raise_signal(number)
        deadline = time.monotonic() + 60
        while not (self.heeds and self.asked.is_set()):
            assert time.monotonic() < deadline, "not interrupted"
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_workers_to_end_and_waits_for_them(number, capsys):
    before = [signal.getsignal(each) for each in stopping.SIGNALS]
    working = Working(number)
    with pytest.raises(KeyboardInterrupt):
        train.wait_for(working, working.asked.set)
    assert working.asked.is_set()
    assert "stopping: the workers save first; once more stops at once" in capsys.readouterr().out
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == before


def test_a_second_signal_or_too_long_a_wait_ends_the_command(monkeypatch):
    working = Working(signal.SIGTERM, signal.SIGINT, heeds=False)
    with pytest.raises(KeyboardInterrupt):
        train.wait_for(working, working.asked.set)
    monkeypatch.setattr(stopping, "GRACE_S", 0.05)
    working = Working(signal.SIGTERM, heeds=False)
    with pytest.raises(KeyboardInterrupt):
        train.wait_for(working, working.asked.set)
    assert working.asked.is_set()


def test_without_a_signal_nobody_is_asked():
    asked = []
    train.wait_for(Trainer(None), lambda: asked.append(1))
    assert not asked
    assert not [thread for thread in threading.enumerate() if thread.name == "stopping"]
