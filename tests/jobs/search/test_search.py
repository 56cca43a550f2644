"""A search without Ray: who goes on, what is kept, how it continues."""

import dataclasses
import json
import math
import random

import pytest

from jobs import recipes
from jobs.errors import JobError
from jobs.search import findings, halving, proposals
from jobs.search import page as search_page
from jobs.search.distributions import Choice, Real
from jobs.search.findings import Findings
from jobs.search.halving import Rungs
from jobs.search.journal import Journal, Record
from jobs.search.search import Search
from jobs.search.spaces import SPACES, Entry, Space, When
from pipelines import storage

SPACE = Space(
    (
        Entry("train.lr", Real(1e-4, 1e-1, log=True)),
        Entry("train.loss", Choice(("charbonnier", "l1"))),
        Entry("train.clip_norm", Real(0.1, 10), when=When("train.loss", ("l1",))),
    )
)
DEMO = recipes.recipe("demo")
STEPS = 64


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path))
    return tmp_path


def started(*, trials=16, halved=True, proposer=None, **options):
    rungs = Rungs(halving.rungs(STEPS) if halved else ())
    proposer = proposer or proposals.Optuna(SPACE, 0, ["psnr"])
    fields = {"first": SPACE.of(DEMO)} | options
    search = Search(Journal("s"), SPACE, proposer, rungs, trials, STEPS, **fields)
    search.resume()
    return search


def psnr_db(values, step):
    """Return a score that is best at a learning rate of 1e-2, with a chance of 0.1 dB in it."""
    rate = values.get("train.lr", 1e-4)
    chance = random.Random(f"{rate} {step}").gauss(0, 0.1)
    return 30 - (math.log10(rate) + 2) ** 2 - 5 / math.sqrt(step) + chance


def train(search, record, *, until=STEPS, score=psnr_db):
    """Run a trial as far as the search lets it."""
    for step in halving.milestones(STEPS, halving=True):
        result = {"step": step, "seconds": step, "began": step, "ended": step + 1}
        found = score(record.values, step)
        done = {"objectives": [("psnr", found)]} if step == STEPS else {}
        if not search.result(record.number, result | {"psnr_db": found} | done) or step >= until:
            return


def whole(search):
    while (record := search.next()) is not None:
        train(search, record)
    return search


def found_by(search):
    return Findings(
        name="s",
        recipe=DEMO,
        space=SPACE,
        objectives=("psnr",),
        last_step=STEPS,
        trials=search.trials,
        records=tuple(record for _, record in sorted(search.records.items())),
    )


def test_halving_runs_less_than_half_of_the_steps_and_finds_the_best():
    search = whole(started(first={"train.lr": 1e-3, "train.loss": "charbonnier"}))
    found = found_by(search)
    assert len(found.over) == 16
    assert found.step_fraction <= 0.4
    assert found.winner.psnr_db > found.records[0].psnr_db
    assert found.best.train.lr == found.winner.values["train.lr"]
    assert found.best.name == "s-best"
    assert {record.status for record in found.records} == {"finished", "stopped"}


def test_trials_that_grow_better_and_better_do_not_all_go_on():
    search = started()
    while (record := search.next()) is not None:
        train(search, record, score=lambda _values, step, n=record.number: n + step / 100)
    assert found_by(search).step_fraction <= 0.4
    assert any(record.status == "finished" for record in found_by(search).records[8:])


def test_the_first_trial_is_the_recipe():
    assert started().next().values == SPACE.of(DEMO)
    outside = dataclasses.replace(DEMO, train=dataclasses.replace(DEMO.train, lr=0.5))
    assert SPACE.of(outside) is None


def test_a_killed_search_repeats_no_trial_that_is_over(store):
    first = started()
    for _ in range(5):
        train(first, first.next())
    interrupted = first.next()
    first.result(
        interrupted.number, {"step": 2, "psnr_db": 9.0, "seconds": 7, "began": 0, "ended": 7}
    )
    before = {path.name: path.read_bytes() for path in store.glob("tune/s/trials/*.json")}

    second = started()
    assert sorted(second.records) == [0, 1, 2, 3, 4]
    again = second.next()
    assert (again.number, again.values) == (5, interrupted.values)
    assert (again.points, again.device_s) == ((), 7.0)
    train(second, again)
    whole(second)
    assert sorted(second.records) == list(range(16))
    for number in range(5):
        name = f"{number:05d}.json"
        assert (store / "tune/s/trials" / name).read_bytes() == before[name]
    assert started().next() is None


def test_a_search_that_continues_proposes_what_it_would_have_proposed():
    first, second = started(), None
    for _ in range(9):
        train(first, first.next())
    second = started()
    assert second.next().values == first.next().values


def test_more_trials_can_be_asked_for_later():
    whole(started(trials=3))
    assert started(trials=5).next().number == 3


def test_rungs_remember_what_was_reached_before():
    whole(started(trials=6))
    resumed = started(trials=9)
    record = resumed.next()
    train(resumed, record, score=lambda _values, _step: 1.0)
    assert resumed.records[record.number].status == "stopped"


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_search_goes_on():
    search = started(trials=4)
    for number in range(3):
        record = search.next()
        result = {"failed": "no number", "step": 0, "seconds": 1, "began": 0, "ended": 1}
        assert not search.result(record.number, result)
        assert search.records[number].error == "no number"
    with pytest.raises(JobError, match=r"did all 64 steps; trial 0: no number"):
        assert found_by(search).winner
    train(search, search.next())
    assert search.best.number == 3


def test_a_search_ends_when_nothing_better_comes():
    search = started(trials=50, stall=4, halved=False)
    train(search, search.next(), score=lambda _values, _step: 50.0)
    whole(search)
    assert len(search.records) == 5


def test_a_grid_is_tried_whole_or_refused():
    space = SPACE.only(("train.loss", "train.lr"))
    search = started(proposer=proposals.Grid(space, 3, 16), halved=False, first={})
    whole(search)
    assert [record.values for record in search.records.values()] == [{}, *space.grid(3)]
    with pytest.raises(JobError, match="6 combinations or more, which with the recipe are more"):
        proposals.Grid(space, 3, 6)


def test_a_random_trial_is_a_function_of_seed_and_number():
    first, second = (proposals.AtRandom(SPACES["tiny"], 3) for _ in range(2))
    assert [first.propose(n) for n in (1, 2, 3)] == [second.propose(n) for n in (1, 2, 3)]
    assert first.propose(1) != first.propose(2)


def test_optuna_comes_closer_to_what_is_good():
    search = whole(started(trials=40, halved=False))
    rates = [math.log10(search.records[n].values["train.lr"]) for n in range(1, 40)]
    early, late = rates[:5], rates[-15:]
    assert sum(abs(r + 2) for r in late) / 15 < sum(abs(r + 2) for r in early) / 5


def test_another_search_of_the_same_name_is_refused():
    Journal("s").open({"a": "1"})
    Journal("s").open({"a": "1"})
    with pytest.raises(JobError, match=r"started with other values \(a was 1, is 2\).*--name"):
        Journal("s").open({"a": "2"})


def test_a_population_keeps_who_went_on_from_whom():
    search = started(halved=False)
    donor, record = search.next(), search.next()
    for number, steps in ((donor.number, (6, 24, 32)), (record.number, (6, 24, 32, 48))):
        for step in steps:
            search.result(
                number, {"step": step, "psnr_db": 9, "seconds": 1, "began": 0, "ended": 1}
            )
    values = donor.values | {"train.lr": 0.02}
    result = {"psnr_db": 31.0, "seconds": 9, "began": 0, "ended": 1}
    result |= {"values": list(values.items()), "donor": 0, "resumed": 32, "step": 40}
    assert search.result(1, result)
    kept = search.records[1]
    assert [step for step, _ in kept.points] == [6, 24, 32, 40]
    assert [(c.donor, c.step, c.values["train.lr"]) for c in kept.changes] == [(0, 32, 0.02)]
    read = Journal("s").records()[1]
    assert read.parsed(SPACE).last_values == kept.last_values == values


def front(*points):
    return Findings(
        name="<front>",
        recipe=DEMO,
        space=SPACE,
        objectives=("psnr", "params"),
        last_step=STEPS,
        trials=9,
        records=tuple(
            Record(
                number=number,
                values={"train.lr": 1e-3, "train.loss": "charbonnier"},
                status="finished",
                points=((STEPS, psnr),),
                objectives={"psnr": psnr, "params": params},
            )
            for number, (psnr, params) in enumerate(points)
        ),
    )


def test_the_front_is_what_no_other_trial_beats():
    found = front((30, 100), (31, 200), (29, 150), (31, 300), (30, 100))
    assert [record.number for record in found.front] == [0, 1, 4]
    assert found.summary()["objectives"] == ("psnr", "params")
    assert "psnr against params" in search_page.render(found, "job.json")


def test_importance_finds_what_matters():
    found = found_by(whole(started(trials=40, halved=False)))
    parts = found.importance()
    assert parts["train.lr"] > parts["train.loss"]
    assert sum(parts.values()) == pytest.approx(1)
    few = dataclasses.replace(found, records=found.records[:3])
    assert few.importance() == {}


def test_the_page_stands_alone_and_shows_every_trial(store):
    found = found_by(whole(started()))
    text = search_page.render(found, "best job.json")
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert text.count("<tr") == 1 + 16 + 1 + len(found.winner.values)
    for record in found.records:
        assert f"trial {record.number}, " in text
    assert "device-hours" in text
    hostile = dataclasses.replace(found, name="<script>alert(1)</script>")
    assert "<script" not in search_page.render(hostile, "job.json")


def test_the_journal_is_json_that_a_person_can_read(store):
    whole(started(trials=2))
    kept = json.loads(storage.get(str(store / "tune/s/trials/00001.json")))
    assert kept["status"] in ("finished", "stopped")
    assert kept["values"].keys() <= set(SPACE.names)


def test_several_objectives_are_told_by_name_after_a_restart():
    asking = proposals.Optuna(SPACE, 0, ("psnr", "params"))
    for record in front((30, 100), (31, 200)).records:
        Journal("s").put(record)
    for record in Journal("s").records():
        asking.learn(record)
    assert [trial.values for trial in asking.study.trials] == [[30, 100], [31, 200]]
    assert asking.propose(2).keys() <= set(SPACE.names)


def test_directions_are_named_once():
    assert findings.sign("psnr") == 1
    assert findings.sign("latency") == -1


def test_milestones_hold_every_rung():
    for steps in (1, 2, 7, 64, 600, 300_000):
        assert set(halving.rungs(steps)) <= set(halving.milestones(steps, halving=True))
        assert halving.milestones(steps, halving=True)[-1] == steps
    assert halving.milestones(600, halving=True) == (50, 200, 400, 600)
