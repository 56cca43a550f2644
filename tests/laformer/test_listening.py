"""Workers ask every few seconds, however long a step takes."""

import pytest

from laformer import listening
from laformer.listening import Listening


@pytest.mark.parametrize(("step_s", "steps"), [(0.01, 200), (0.5, 4), (3.0, 1), (60.0, 1)])
def test_the_steps_between_two_questions_take_two_seconds(monkeypatch, step_s, steps):
    now_s = [100.0]
    monkeypatch.setattr(listening.time, "monotonic", lambda: now_s[0])
    asking = Listening.after_start(40)
    assert not asking.due(40)
    assert asking.due(41)
    now_s[0] += 30  # the first step waits for the stream
    asking.next_step = asking.plan(41)
    assert asking.next_step == 42
    now_s[0] += step_s + 1e-9
    asking.next_step = asking.plan(42)
    assert asking.next_step - 42 == pytest.approx(steps, abs=1)
