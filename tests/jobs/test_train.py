"""The training command around the workers."""

import signal

import pytest
from ray.train import ControllerError

from jobs import train
from laformer.errors import TrainingError


class Trainer:
    def __init__(self, error):
        self.error = error

    def fit(self):
        raise self.error


def test_what_ended_a_run_is_raised_as_it_was():
    with pytest.raises(TrainingError, match="the loss is nan"):
        train.wait_for(Trainer(ControllerError(TrainingError("the loss is nan"))))


def test_the_way_out_of_ray_is_that_of_the_keyboard():
    with pytest.raises(KeyboardInterrupt):
        train.wait_for(Trainer(SystemExit(0)))


def test_a_signal_to_end_stops_the_command_as_the_keyboard_does():
    class Signalled:
        def fit(self):
            signal.signal(signal.SIGINT, lambda *_: None)  # as Ray Train leaves it
            signal.raise_signal(signal.SIGTERM)

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        train.wait_for(Signalled())
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
