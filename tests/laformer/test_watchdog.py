import subprocess
import sys
import threading

from laformer.watchdog import Watchdog


def test_a_worker_that_stands_still_is_ended_after_telling_so():
    told, ended = [], threading.Event()
    dog = Watchdog(0.001, told.append, ended.set)
    assert ended.wait(30)
    dog.stop()
    assert told == [
        "made no progress for 0.003 s and is ended; the stacks of its threads are in its log"
    ]


def test_the_first_step_may_take_longer():
    told = []
    dog = Watchdog(1000.0, told.append, lambda: None)
    first = dog.due_s
    dog.beat()
    assert first - dog.due_s > 1500
    dog.stop()
    assert told == []


def test_the_stacks_of_what_is_stuck_are_in_the_log():
    program = (
        "import threading\n"
        "from laformer.watchdog import Watchdog\n"
        "def stuck_step():\n    threading.Event().wait()\n"
        "Watchdog(0.01, print)\nstuck_step()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 70
    assert "in stuck_step" in done.stderr
