"""The training command and the signals that end it: it saves, says so, and the same continues."""

import dataclasses
import os
import signal
import time

import pytest

from jobs import prepare, recipes, train
from jobs.checkpoints import StoredShelf
from jobs.config import PrepareJob
from jobs.tracking import Tracker
from laformer.config import Stage
from tests.hosts import Command
from tests.jobs.test_way import sums, training, upload

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STEPS, EVERY = 160, 80
STAGES = (Stage(first_step=40, patch_px=24, global_batch=2),)


@pytest.fixture(scope="module")
def store(cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAFORMER_STORE", str(folder))
        upload(str(folder / "photos"), 6)
        prepare.run(PrepareJob(photos=str(folder / "photos"), holdout=0.3))
        yield folder


def job(name):
    trained = training(steps=STEPS, checkpoint_every=EVERY, segment_steps=100, stages=STAGES)
    return dataclasses.replace(trained, name=name)


def by_terminal(command):
    """Do what Ctrl-C does: the signal goes to all processes of the terminal."""
    os.killpg(command.process.pid, signal.SIGINT)


def by_scheduler(command):
    command.process.send_signal(signal.SIGTERM)


def test_a_signal_saves_the_present_step_and_the_same_command_goes_on(store, tmp_path):
    (tmp_path / "job.json").write_text(recipes.to_json(job("stopped")))
    shelf = StoredShelf(str(store / "train" / "stopped"))
    last, ended = 0, []
    # Once before the second stage, once in it.
    for end, first, then in ((by_terminal, 0, 20), (by_scheduler, 40, 50)):
        words = ("tests.driver", "train", "--job", str(tmp_path / "job.json"))
        command = Command(*words, LAFORMER_STORE=str(store))
        try:
            if last:
                command.said(f"continuing from step {last}")
            samples = store / "train" / "stopped" / "samples of rank 0"
            deadline = time.monotonic() + 120
            while max(steps(samples), default=0) < max(then, last + 5):
                assert time.monotonic() < deadline, command
                assert command.process.poll() is None, command
                time.sleep(0.05)
            asked_s = time.monotonic()
            end(command)
            assert command.ended(60) == 130, command
            print(command)
            print(f"ended {time.monotonic() - asked_s:.1f} s after the signal")
            assert "stopping: the workers save first; once more stops at once" in command.lines
            assert "stopped; run the same command again to continue" in command.lines
            assert not [line for line in command.lines if "Traceback" in line]
            stopped = max(shelf.complete())
            assert stopped > max(first, last)
            assert stopped % EVERY
            assert stopped == max(steps(samples)) + 1, "steps were lost"
            last = stopped
            ended += [(run.info.run_id, run.info.status) for run in recorded("stopped")]
        finally:
            command.close()
    resumed = train.run(job("stopped"))
    assert ended == 2 * [(resumed.run_id, "KILLED")]
    (run,) = recorded("stopped")
    assert run.info.status == "FINISHED"
    whole = train.run(job("whole"))
    stopped, undisturbed = (str(store / "train" / name) for name in ("stopped", "whole"))
    assert sums(stopped, STEPS) == sums(undisturbed, STEPS)
    assert resumed.version.number == whole.version.number


def recorded(name):
    """Return what MLflow has of a run: one, whatever became of the commands."""
    return Tracker().client.search_runs(["1"], f"attributes.run_name = '{name}'")


def steps(path):
    """Return the steps of a record of samples."""
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []
