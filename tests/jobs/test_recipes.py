"""Recipes: what is listed trains. Their debug variants do, in six steps each."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from jobs import cli, place, prepare, recipes, train
from jobs.config import PrepareJob
from jobs.tracking import Tracker
from jobs.training import inputs
from jobs.versions.registry import CANDIDATE, Registry
from laformer import checkpoint
from laformer.batches import to_batch
from laformer.config import Stage
from laformer.loop import State, fit
from laformer.model import LAformer, num_parameters
from pipelines import images
from pipelines.images import Photo
from pipelines.plan import Span
from pipelines.tasks import TASKS
from pipelines.training import CropReader
from tests.pipelines.test_training import photo, write_photos

DEBUG = [recipes.DEBUG + name for name in recipes.RECIPES]
PIXELS = (112, 128)


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return write_photos(folder, {f"{i}.png": photo(i, size=PIXELS) for i in range(3)})


def batches(job, uri):
    """Yield the batches of a job as one worker would receive them, read in this process."""
    stream = inputs.samples(job, (uri,), TASKS[job.task])
    for step in range(job.train.steps):
        made = stream.at(step)
        span = Span(step, step + 1, 0, made.plan.global_batch)
        yield to_batch(CropReader(made).read(span))


def fitted(job, uri):
    """Return the weights before and after all steps, and the loss and the shapes of each."""
    torch.manual_seed(job.train.seed)
    state = State.create(LAformer(job.model), job.train)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    losses, shapes = [], []

    def fed():
        for batch in batches(job, uri):
            shapes.append((tuple(batch.lq.shape), tuple(batch.gt.shape)))
            yield batch

    fit(state, fed(), job.train, after_step=lambda _state, step: losses.append(step.loss.item()))
    return before, state, losses, shapes


def test_every_task_has_a_recipe():
    assert {job.task for job in recipes.RECIPES.values()} == TASKS.keys()


@pytest.mark.parametrize("name", DEBUG)
def test_every_debug_recipe_trains(name, uri):
    job = recipes.recipe(name)
    inputs.check_model(job, TASKS[job.task])
    before, state, losses, shapes = fitted(job, uri)
    assert num_parameters(state.model) < 16_000
    assert state.step == len(losses) == 6
    assert np.isfinite(losses).all()
    after = state.model.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert len(changed) == len(before)
    assert all(torch.isfinite(value).all() for value in after.values())
    model = job.model
    for step, (lq, gt) in enumerate(shapes):
        batch, side = (4, 16) if step < 3 else (2, 24)
        assert lq == (batch, model.in_channels, side, side)
        assert gt == (batch, model.out_channels, side * model.scale, side * model.scale)


def test_a_debug_recipe_keeps_what_is_its_own():
    job, tried = recipes.recipe("deblur-defocus-dual"), cli.parse(["train", "debug-sr-x3"])
    assert (tried.name, tried.task, tried.model.scale) == ("debug-sr-x3", "sr-x3", 3)
    other = dataclasses.replace(job, train=dataclasses.replace(job.train, loss="l1", seed=3))
    assert recipes.debug(other).model.in_channels == 6
    assert (recipes.debug(other).train.loss, recipes.debug(other).train.seed) == ("l1", 3)
    assert recipes.from_json(recipes.to_json(tried)) == tried


def test_the_schedule_is_the_published_one():
    stages = recipes.recipe("derain").train.all_stages
    ends = [*(stage.first_step for stage in stages), recipes.RESTORMER.steps]
    published = zip(
        (92_000, 64_000, 48_000, 36_000, 36_000, 24_000),
        (128, 160, 192, 256, 320, 384),
        (8, 5, 4, 2, 1, 1),
        strict=True,
    )
    for stage, (first, last), (steps, patch_px, per_gpu) in zip(
        stages, itertools.pairwise(ends), published, strict=True
    ):
        assert last - first == steps
        assert stage == Stage(first_step=first, patch_px=patch_px, global_batch=8 * per_gpu)


@pytest.mark.parametrize(("name", "scale", "hours"), [("derain", 1, 14), ("sr-x4", 4, 2)])
def test_the_estimated_hours_are_what_their_rule_gives(name, scale, hours):
    job = recipes.recipe(name).train
    ends = [*(stage.first_step for stage in job.stages), job.steps]
    pixels = sum(
        (end - stage.first_step) * stage.global_batch * (stage.patch_px // scale) ** 2
        for stage, end in zip(job.all_stages, ends, strict=True)
    )
    assert pixels * 3 * 130e3 / (4.8e12 / 2) / 3600 == pytest.approx(hours, abs=0.5)


@pytest.mark.ray
@pytest.mark.slow
def test_the_verb_trains_both_stages_as_the_loop_does(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("LAFORMER_STORE", str(tmp_path / "runs"))
    (tmp_path / "photos").mkdir()
    for i in range(4):
        data = images.encode(Photo(pixels=photo(i, size=PIXELS)), ".png")
        (tmp_path / "photos" / f"{i}.png").write_bytes(data)
    prepare.run(PrepareJob(photos=str(tmp_path / "photos"), holdout=0.3))
    exactly = ["--train.precision", "float32"]
    job = dataclasses.replace(cli.parse(["train", "debug-deblur-motion", *exactly]), workers=2)
    done = train.run(job)
    assert Registry().alias(done.version.name, CANDIDATE) is None
    losses = Tracker().history(done.run_id, "loss")
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert done.facts["samples"]["stages"]["3"]["patch_px"] == 24

    _, state, alone, _ = fitted(job, place.manifest_uri(None))
    assert [loss for _, loss in losses] == pytest.approx(alone, rel=1e-4)
    folder = tmp_path / "runs" / "train" / "debug-deblur-motion" / "step_00000006"
    torch.manual_seed(1)
    trained = State.create(LAformer(job.model), job.train)
    checkpoint.load_state(folder, trained)
    for name, value in state.model.state_dict().items():
        torch.testing.assert_close(trained.model.state_dict()[name], value, msg=name)
