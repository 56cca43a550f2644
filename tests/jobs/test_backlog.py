"""What waits is sent in order, once; what is never taken is left out alone."""

import threading

import pytest

from jobs import backlog
from jobs.backlog import Backlog, Sender
from jobs.errors import JobError, UnavailableError


class Service:
    """Takes lines while it is there; refuses negative ones for ever."""

    def __init__(self):
        self.taken, self.is_there, self.told = [], threading.Event(), []

    def take(self, lines):
        if not self.is_there.is_set():
            raise UnavailableError("away")
        if any(line["n"] < 0 for line in lines):
            raise JobError("no")
        self.taken += [line["n"] for line in lines]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(backlog, "FIRST_WAIT_S", 0.01)
    return Service()


def sender(service, most_bytes=1 << 20):
    made = Sender(
        service.take,
        Backlog(most_bytes),
        most=2,
        away=lambda error: service.told.append(str(error)),
        back=lambda: service.told.append("back"),
    )
    made.thread.start()
    return made


def end(made):
    made.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def test_what_a_service_missed_arrives_in_order_when_it_is_back(service):
    made = sender(service)
    for n in range(7):
        made.backlog.add({"n": n})
    while service.told.count("away") < 3:
        threading.Event().wait(0.01)
    service.is_there.set()
    while made.backlog.waiting():
        threading.Event().wait(0.01)
    end(made)
    assert service.taken == list(range(7))
    assert service.told[-1] == "back"
    assert service.told.count("back") == 1


def test_what_is_never_taken_holds_up_nothing(service):
    service.is_there.set()
    made = sender(service)
    for n in (1, -1, 2, -2, 3):
        made.backlog.add({"n": n})
    end(made)
    assert service.taken == [1, 2, 3]
    assert made.rejected == 2
    assert service.told == []


def test_the_end_does_not_wait_for_a_service_that_is_away(service):
    made = sender(service)
    made.backlog.add({"n": 1})
    end(made)
    assert made.backlog.waiting() == ['{"n": 1}']
    assert service.taken == []


def test_a_full_backlog_gives_up_the_oldest_even_while_they_are_on_their_way():
    waiting = Backlog(most_bytes=30)
    for n in range(3):
        waiting.add({"n": n})
    upto, lines = waiting.first(2)
    assert lines == [{"n": 0}, {"n": 1}]
    for n in range(3, 6):
        waiting.add({"n": n})
    assert waiting.dropped == 3
    waiting.remove(upto)
    assert waiting.waiting() == ['{"n": 3}', '{"n": 4}', '{"n": 5}']
    waiting.add({"n": "a line larger than the bound is kept alone"})
    assert len(waiting.waiting()) == 1
