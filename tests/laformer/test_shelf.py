import pytest
import torch

from laformer import checkpoint, shelf
from laformer.errors import CheckpointError
from laformer.loop import fit
from tests.networks import batches, config, state
from tests.shelves import FolderShelf

TRAIN = config(steps=8)


@pytest.fixture
def stored(tmp_path):
    """Return a shelf with the checkpoints of steps 2, 4 and 6 of one run."""
    kept, trained = FolderShelf(tmp_path), state(TRAIN)
    for step in (2, 4, 6):
        fit(trained, batches(8)[step - 2 : step], TRAIN)
        kept.store(step, checkpoint.Snapshot.take(trained, {"val_psnr_db": 20.0}).files())
    return kept


def flip(folder):
    path = folder / checkpoint.STATE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(folder):
    path = folder / checkpoint.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def lose(folder):
    (folder / checkpoint.CONFIG).unlink()


def empty(folder):
    for path in folder.iterdir():
        path.unlink()


def garble(folder):
    (folder / checkpoint.SUMS).write_text('{"config.js')


@pytest.mark.parametrize("harm", [flip, cut, lose, empty, garble])
def test_a_bad_checkpoint_is_passed_over_with_a_warning_that_names_both(stored, harm):
    harm(stored.folder(6))
    told = []
    resumed = state(TRAIN, seed=9)
    assert shelf.load_newest(stored, resumed, told.append)["step"] == resumed.step == 4
    [line] = told
    assert line.startswith("warning: using the checkpoint of step 4 instead of step 6: ")
    assert str(stored.folder(6)) in line


def test_the_steps_after_the_one_that_is_used_are_done_again_exactly(stored):
    before = dict(checkpoint.Snapshot.take(loaded(stored, 6), {}).files())
    flip(stored.folder(6))
    resumed = state(TRAIN, seed=9)
    shelf.load_newest(stored, resumed, lambda _: None)
    fit(resumed, batches(8)[4:6], TRAIN)
    assert dict(checkpoint.Snapshot.take(resumed, {}).files()) == before


def loaded(stored, step):
    fresh = state(TRAIN, seed=3)
    shelf.load(stored, step, fresh)
    return fresh


def test_a_run_without_any_good_checkpoint_is_explained(stored):
    for step, harm in ((2, flip), (4, cut), (6, empty)):
        harm(stored.folder(step))
    with pytest.raises(
        CheckpointError, match=r"none of the 3 checkpoints .*step 6: .*step 4: .*step 2: .*--name"
    ):
        shelf.load_newest(stored, state(TRAIN), lambda _: None)


def test_a_run_killed_in_its_first_checkpoint_starts_again(tmp_path):
    (tmp_path / "2").mkdir()
    told = []
    assert shelf.load_newest(FolderShelf(tmp_path), state(TRAIN), told.append) == {}
    assert "starting at step 0 instead of step 2" in told[0]
    assert shelf.load_newest(FolderShelf(tmp_path / "none"), state(TRAIN), told.append) == {}
    assert len(told) == 1


def test_the_other_ranks_insist_on_the_step_of_rank_0(stored):
    flip(stored.folder(4))
    with pytest.raises(CheckpointError, match="is damaged"):
        shelf.load(stored, 4, state(TRAIN))
    assert loaded(stored, 2).step == 2


@pytest.mark.parametrize(
    ("scores", "keep", "gone"),
    [
        ({}, 1, []),
        ({2: 20.0}, 1, []),
        ({2: 30.0, 4: 20.0, 6: 25.0}, 1, [4]),
        ({2: 20.0, 4: 20.0, 6: 10.0, 8: 10.0}, 2, [4]),
        ({2: 20.0, 4: 21.0, 6: 22.0}, 2, [2]),
        ({2: None, 4: None, 6: 1.0, 8: None}, 1, [2, 4]),
    ],
)
def test_the_last_ones_and_the_best_are_kept(scores, keep, gone):
    assert shelf.doomed(scores, scores, keep) == gone


def test_what_a_kill_left_behind_goes_but_later_steps_stay():
    assert shelf.doomed({4: 1.0, 6: 2.0}, [3, 4, 6, 8], 2) == [3]
    assert shelf.doomed({}, [2], 1) == []


def test_training_and_validation_draw_no_random_numbers():
    """So no checkpoint needs a generator."""
    trained = state(TRAIN)
    rows = [{"key": "a", "lq": batches(1)[0].lq[0].permute(1, 2, 0).numpy()}]
    rows[0]["gt"] = rows[0]["lq"]
    from laformer import loop

    before = torch.get_rng_state()
    fit(trained, batches(3), TRAIN)
    with loop.averaged(trained) as model:
        assert len(list(loop.validate(model, rows))) == 1
    assert torch.equal(torch.get_rng_state(), before)
