"""Every task: what its degradation gives, and how its gate judges."""

import ast
import pickle

import cv2
import numpy as np
import pytest

from pipelines import degradations, tasks
from pipelines.errors import DataError
from pipelines.pixels import margin_of
from pipelines.scenes import Crop, Decoded, Form, Scene
from pipelines.tasks import TASKS


@pytest.fixture(scope="module")
def photo():
    """Return a smooth picture of 96 x 120 pixels with some edges."""
    small = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(small, (120, 96), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("bits", [8, 16])
def test_lq_has_the_shape_that_the_task_states(name, bits, photo):
    task = TASKS[name]
    form = Form(bits=bits, channels=task.channels)
    scene = Scene(Decoded(photo))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        crop = Crop.draw(scene.gt.shape, 48, task.pairs, rng)
        gt, lq = scene.cut(crop, task.pairs, form, rng)
        side = 48 // task.pairs.scale
        assert gt.shape == (48, 48, task.channels)
        assert lq.shape == (side, side, task.channels * task.views)
        assert lq.dtype in (gt.dtype, np.float16)
        assert np.isfinite(lq.astype(np.float32)).all()


@pytest.mark.parametrize("name", TASKS)
def test_the_gate_makes_the_same_lq_twice_and_shows_it_in_the_size_of_gt(name, photo):
    task = TASKS[name]
    form = Form(bits=8, channels=task.channels)
    gate = task.gate
    gt = gate.prepare(form(photo))
    first, again = gate.degrade(gt), gate.degrade(gt)
    assert np.array_equal(first, again)
    assert gate.shown(first).shape == gt.shape
    assert gate.name.startswith("held-out")


def test_no_two_gates_of_different_inputs_share_a_name():
    by_name: dict[str, set[str]] = {}
    for task in TASKS.values():
        by_name.setdefault(task.gate.name, set()).add(repr(task.gate.degrade))
    assert all(len(inputs) == 1 for inputs in by_name.values())


@pytest.mark.parametrize("name", TASKS)
def test_a_degradation_is_a_value_that_travels(name):
    degrade = TASKS[name].pairs.degrade
    assert pickle.loads(pickle.dumps(degrade)) == degrade
    # The text of it is what tells whether a run may resume: no address, nothing that changes.
    called = ast.parse(repr(degrade), mode="eval")
    names = {node.id for node in ast.walk(called) if isinstance(node, ast.Name)}
    assert names <= set(degradations.__all__)


@pytest.mark.parametrize("name", TASKS)
def test_the_scale_divides_the_margin(name):
    pairs = TASKS[name].pairs
    assert margin_of(pairs.degrade) % pairs.scale == 0


def test_an_unknown_task_is_named():
    with pytest.raises(DataError, match="unknown task 'x'; use one of: denoise-gaussian, "):
        tasks.find("x")
