"""Stages: each has its own crops and batch, and the step alone says which samples come."""

import json

import numpy as np
import pytest

from laformer.batches import Lanes, steps_of
from laformer.config import Stage, TrainConfig
from pipelines.errors import DataError, ManifestError
from pipelines.plan import Span
from pipelines.stages import StagedStream
from pipelines.tasks import TASKS
from pipelines.training import CropReader, TrainingStream
from tests.pipelines.test_training import NOISE, PLAN, digests, photo, write_photos

STAGES = (
    Stage(first_step=7, patch_px=24, global_batch=2),
    Stage(first_step=11, patch_px=32, global_batch=6),
)
TRAIN = TrainConfig(
    steps=15,
    patch_px=16,
    global_batch=4,
    stages=STAGES,
    warmup_steps=0,
    flat_steps=0,
    segment_steps=3,
)
OPTIONS = {name: value for name, value in PLAN.items() if name != "global_batch"}


@pytest.fixture
def uri(tmp_path):
    return write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(5)})


def staged(uri, train=TRAIN, task=NOISE):
    return StagedStream.create((uri,), task=task, stages=train.all_stages, plan_options=OPTIONS)


def delivered(stream, first_step, num_workers, train=TRAIN):
    """Return (step, sample id) -> hash, as training workers receive them from a step on."""
    found, step = {}, first_step
    while step < train.steps:
        last = train.segment_end(step)
        reader = CropReader(stream.at(step))
        spans = list(reader.stream.cut(step, last, num_workers))
        for worker in range(num_workers):
            lanes = Lanes.of(worker, num_workers, train.stage_at(step).global_batch)
            blocks = (reader.read(span) for span in spans[worker::num_workers])
            for at, parts in enumerate(steps_of(blocks, lanes, first_step=step), step):
                for rows in parts:
                    found |= {(at, n): digest for n, digest in digests(rows).items()}
        step = last
    return found


def test_any_number_of_workers_and_any_restart_give_the_same_samples(uri):
    whole = delivered(staged(uri), 0, 1)
    assert len(whole) == 7 * 4 + 4 * 2 + 4 * 6
    assert delivered(staged(uri), 0, 2) == whole
    for first in range(1, TRAIN.steps):
        rest = {key: digest for key, digest in whole.items() if key[0] >= first}
        assert delivered(staged(uri), first, 1 + first % 2) == rest


def test_a_stage_cuts_crops_of_its_own_size_by_a_plan_of_its_own(uri):
    stream = staged(uri)
    for index, stage in enumerate(TRAIN.all_stages):
        made = stream.at(stage.first_step)
        assert made == stream.streams[index]
        first = stage.first_step
        block = CropReader(made).read(Span(first, first + 1, 0, stage.global_batch))
        assert block["gt"].shape == (stage.global_batch, stage.patch_px, stage.patch_px, 3)
    seeds = {made.plan.seed for made in stream.streams}
    assert len(seeds) == 3
    assert stream.window_bytes == stream.streams[2].window_bytes


def test_samples_of_later_stages_are_others(tmp_path):
    """The same size and batch again: only the plan differs."""
    uri = write_photos(tmp_path, {f"{i}.png": photo(i) for i in range(3)})
    again = Stage(first_step=4, patch_px=16, global_batch=4)
    train = TrainConfig(
        steps=8, patch_px=16, global_batch=4, stages=(again,), warmup_steps=0, flat_steps=0
    )
    stream = staged(uri, train)
    first, later = (CropReader(made).read(Span(4, 8, 0, 4)) for made in stream.streams)
    assert np.array_equal(first["sample_id"], later["sample_id"])
    assert not set(digests(first).values()) & set(digests(later).values())


def test_one_stage_is_the_stream_without_stages(uri):
    train = TrainConfig(steps=15, patch_px=16, global_batch=4, warmup_steps=0, flat_steps=0)
    plain = TrainingStream.create((uri,), task=NOISE, patch_px=16, plan_options=PLAN)
    stream = staged(uri, train)
    assert stream.streams == (plain,)
    assert stream.fingerprint() == plain.fingerprint()
    assert (stream.digest, stream.window_bytes) == (plain.digest, plain.window_bytes)
    assert train.segment_end(0) == 15


def test_the_fingerprint_says_what_later_stages_have_otherwise(uri):
    facts = staged(uri).fingerprint()
    assert (facts["patch_px"], facts["global_batch"]) == (16, 4)
    later = facts["stages"]
    assert list(later) == ["7", "11"]
    assert later["7"].keys() == {"patch_px", "global_batch", "seed"}
    assert (later["11"]["patch_px"], later["11"]["global_batch"]) == (32, 6)
    assert json.loads(json.dumps(facts))["stages"] == later


def test_no_segment_crosses_a_stage(uri):
    ends = [0]
    while ends[-1] < TRAIN.steps:
        ends.append(TRAIN.segment_end(ends[-1]))
    assert ends == [0, 3, 6, 7, 10, 11, 14, 15]
    with pytest.raises(ValueError, match="steps 6 to 9 are of several stages"):
        staged(uri).segment(6, 9, 1)


def test_photos_too_small_for_a_later_stage_are_named_before_training(tmp_path):
    sizes = {"a.png": (40, 52), "b.png": (20, 60), "c.png": (28, 30)}
    uri = write_photos(tmp_path, {name: photo(1, size=size) for name, size in sizes.items()})
    assert staged(uri).left_out() == [
        "from step 7 on 1 of 3 photos are left out: a side has fewer than 24 pixels",
        "from step 11 on 2 of 3 photos are left out: a side has fewer than 32 pixels",
    ]
    large = Stage(first_step=7, patch_px=64, global_batch=2)
    train = TrainConfig(
        steps=8, patch_px=16, global_batch=4, stages=(large,), warmup_steps=0, flat_steps=0
    )
    with pytest.raises(ManifestError, match="no training photo of at least 64 x 64 pixels"):
        staged(uri, train)


def test_every_patch_is_a_multiple_of_the_scale(uri):
    other = Stage(first_step=7, patch_px=32, global_batch=2)
    train = TrainConfig(
        steps=8, patch_px=24, global_batch=4, stages=(other,), warmup_steps=0, flat_steps=0
    )
    with pytest.raises(DataError, match="patch 32 is not a multiple of the scale 3; use 30"):
        staged(uri, train, TASKS["sr-x3"])
