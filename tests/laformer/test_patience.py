"""When a run has stopped getting better."""

import json

import pytest

from laformer.patience import Record
from tests.networks import config


def record(scores, start=None):
    found = start or Record()
    for step, psnr_db in scores:
        found = found.after(step, psnr_db)
    return found


def test_validations_since_the_best_are_counted():
    found = record([(10, 20.0), (20, 25.0), (30, 24.0), (40, 25.0)])
    assert found == Record(25.0, step=20, since=2)
    assert found.after(50, 25.1) == Record(25.1, step=50)


def test_a_run_ends_when_its_patience_does():
    found = record([(10, 20.0), (20, 19.0)])
    assert found.exhausts(1)
    assert not found.exhausts(2)
    assert not found.exhausts(None)
    assert not Record().exhausts(1)


def test_the_count_survives_a_checkpoint():
    scores = [(10, 20.0), (20, 19.0), (30, 18.0)]
    facts = json.loads(json.dumps(record(scores[:2]).facts))
    assert record(scores[2:], Record.of(facts)) == record(scores)
    assert Record.of({"step": 5}) == Record()


def test_no_patience_at_all_is_refused():
    with pytest.raises(ValueError, match="patience 0 is less than 1; use 1, or None to go on"):
        config(patience=0)
