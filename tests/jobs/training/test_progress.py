"""What a person sees of a run: a line a minute, each validation, and how long it still takes."""

import io
import json

import pytest
from rich.console import Console

from jobs import console
from jobs.console import Bar, Pace, lasting
from jobs.gauges import TRAINING, Gauges
from jobs.training import progress

NUMBERS = {"step": 20.0, "loss": 0.04125, "samples_per_s": 35.2, "data_wait_fraction": 0.021}


@pytest.fixture
def log(monkeypatch):
    """Write what is said into a text, as into the file of a log."""
    text = io.StringIO()
    monkeypatch.setattr(console, "CONSOLE", Console(file=text, soft_wrap=True))
    return text


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose last number is the time in s."""
    times = [0.0]
    monkeypatch.setattr(console.time, "perf_counter", lambda: times[-1])
    return times


def test_a_log_has_a_line_a_minute_and_one_at_the_end(log, clock):
    with console.bar("training", 100, line_every_s=60.0) as shown:
        for second in range(1, 201):
            clock.append(float(second))
            shown.update(second // 2, "loss 0.1")
        shown.update(100, "loss 0.1, held-out 27 dB")
    lines = log.getvalue().splitlines()
    assert lines == [
        "training: 30 of 100 loss 0.1, 2 min left",
        "training: 61 of 100 loss 0.1, 1 min left",
        "training: 91 of 100 loss 0.1, 17 s left",
        "training: 100 of 100 loss 0.1",
    ]


def test_the_pace_is_that_of_what_was_seen():
    pace = Pace(1000)
    pace.look(0, 5.0)
    assert pace.left_s(5.0) is None
    pace.look(400, 10.0)  # a resumed run: 400 steps were done before
    assert pace.left_s(11.0) is None
    pace.look(500, 20.0)
    assert pace.left_s(20.0) == pytest.approx(50.0)
    pace.look(500, 25.0)
    assert pace.left_s(25.0) == pytest.approx(45.0)
    assert pace.left_s(500.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (59.6, "1 min"), (3599, "1 h 0 min"), (48 * 3600, "2 d 0 h")],
)
def test_times_are_said_as_a_person_does(seconds, text):
    assert lasting(seconds) == text


def test_the_note_names_loss_speed_and_wait():
    assert progress.note(NUMBERS) == "loss 0.0413, 35.2 samples/s, 2% waiting for data"
    assert progress.note({"samples_per_s": 0.41}) == "0.41 samples/s"


def test_a_validation_is_said_once(log):
    with console.bar("training", 100) as shown:
        assert isinstance(shown, Bar)
        teller = progress.Teller(shown, "training", Gauges("night", TRAINING))
        for _ in range(2):
            teller.tell(NUMBERS | {"val_psnr_db": 27.123, "val_psnr_db.step": 20.0})
    assert log.getvalue() == "training: held-out 27.12 dB after 20 steps\n"


def test_lines_for_machines_are_objects_with_the_name_of_the_job(monkeypatch, capsys):
    monkeypatch.setenv("LAFORMER_LOG", "json")
    monkeypatch.setattr(console.SPEAKER, "job", "train night")
    console.say("training night: 6 steps")
    console.say("warning: step 3 is skipped")
    console.complain(ValueError("patch 130 is not a multiple of 8"))
    shown = capsys.readouterr()
    found = [json.loads(line) for line in (shown.out + shown.err).splitlines()]
    assert [(line["level"], line["text"]) for line in found] == [
        ("info", "training night: 6 steps"),
        ("warning", "warning: step 3 is skipped"),
        ("error", "patch 130 is not a multiple of 8"),
    ]
    assert {line["job"] for line in found} == {"train night"}
    assert all(line["time"].endswith("+00:00") for line in found)
