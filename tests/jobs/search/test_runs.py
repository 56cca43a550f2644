"""A search in MLflow while its server is away, and a trial that goes on from another one's step."""

from pathlib import Path

import pytest

from jobs import place, recipes
from jobs.checkpoints import StoredShelf
from jobs.errors import UnavailableError
from jobs.search import run_trials
from jobs.search.findings import Findings
from jobs.search.journal import Journal, Record
from jobs.search.runs import SearchRuns, is_concluded
from jobs.search.spaces import SPACES
from jobs.training.runs import shelf_of
from laformer import checkpoint
from laformer.checkpoint import Snapshot
from tests import networks


class Server:
    """Keeps what is logged; answers nothing while it is away."""

    uri = "http://127.0.0.1:9"

    def __init__(self):
        self.away, self.runs, self.ended, self.files = False, {}, [], []

    def continue_run(self, experiment, run, params, *, parent=None):
        if self.away:
            raise UnavailableError("MLflow cannot be reached")
        self.runs.setdefault(run, {"params": params, "points": [], "parent": parent})
        return run

    def file(self, run, path):
        if self.away:
            raise UnavailableError("MLflow cannot be reached")
        self.files.append((run, path.name, path.read_bytes()))

    def history(self, run, metric):
        return [(step, m[metric]) for step, m in self.runs[run]["points"] if metric in m]

    def metrics(self, run, metrics, step=0):
        self.runs[run]["points"].append((step, metrics))

    def finish_run(self, run, *, failed=False):
        self.ended.append((run, failed))


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path))
    return tmp_path


def record(number):
    points = ((4, 20.0 + number), (16, 25.0 + number))
    return Record(number=number, values={"train.lr": 0.01}, status="finished", points=points)


def runs_of(server):
    found = SearchRuns(
        tracker=server,
        journal=Journal("s"),
        experiment="e",
        params=lambda values: {name: str(value) for name, value in values.items()},
        folder=lambda number: f"trial {number}",
    )
    found.open()
    return found


def findings(*records):
    return Findings(
        name="s",
        recipe=recipes.recipe("demo"),
        space=SPACES["training"],
        objectives=("psnr",),
        last_step=16,
        trials=3,
        records=records,
    )


def test_trials_that_could_not_be_recorded_are_recorded_at_the_end(capsys):
    server = Server()
    runs = runs_of(server)
    runs.keep(record(0), {"train.lr": 0.01})
    server.away = True
    runs.keep(record(1), {"train.lr": 0.01})
    runs.keep(record(2), {"train.lr": 0.01})
    assert capsys.readouterr().out.count("warning: MLflow cannot be reached") == 1
    assert "trial 1" not in server.runs
    server.away = False
    runs.close(findings(record(0), record(1), record(2)), {}, failed=False)
    again = runs_of(server)
    again.close(findings(record(0), record(1), record(2)), {}, failed=False)
    for number in range(3):
        run = server.runs[f"trial {number}"]
        assert server.history(f"trial {number}", "val_psnr_db") == [
            (4, 20 + number),
            (16, 25 + number),
        ]
        assert run["parent"] == Journal("s").folder
        assert run["params"]["train.lr"] == "0.01"
        assert server.ended.count((f"trial {number}", False)) == 1


def test_a_search_ends_well_while_the_server_is_away(capsys):
    server = Server()
    runs = runs_of(server)
    server.away = True
    runs.close(findings(record(0)), {}, failed=False)
    assert "the search goes on" in capsys.readouterr().out


def test_the_files_of_a_search_are_attached_when_the_server_is_back(capsys):
    server, files = Server(), {"search.html": b"page", "job.json": b"{}"}
    runs, found = runs_of(server), findings(record(0))
    runs.keep(record(0), {"train.lr": 0.01})
    server.away = True
    runs.close(found, files, failed=False)
    assert "the same command again records what came of the search" in capsys.readouterr().out
    assert not is_concluded(Journal("s"), 1)
    server.away = False
    runs_of(server).close(found, files, failed=False)
    assert server.files == [(Journal("s").folder, *each) for each in files.items()]
    assert is_concluded(Journal("s"), 1)
    assert not is_concluded(Journal("s"), 2)


def test_a_run_goes_on_from_a_step_of_another_run(tmp_path):
    donor = StoredShelf(place.run_folder("donor"))
    config = networks.config(steps=8)
    state = networks.state(config)
    for step in (2, 4):
        state.step = step
        donor.store(step, Snapshot.take(state, {"val_psnr_db": 20.0}).files())
    job = run_trials.replace(recipes.recipe("demo"), name="heir")
    # Step 6 was reported, but not stored yet when it was asked for.
    assert run_trials.continued(job, "donor", 6) == 4
    shelf = shelf_of(job)
    assert shelf.complete() == [4]
    heir = networks.state(config, seed=1)
    with shelf.opened(4) as folder:
        checkpoint.load_state(Path(folder), heir)
    assert heir.step == 4
    assert run_trials.continued(job, "nobody", 6) == 0
