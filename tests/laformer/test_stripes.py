"""Stripes give the result of the whole image, within their budget."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from laformer import checkpoint
from laformer.config import SIZES, InferenceConfig, ModelConfig
from laformer.errors import ModelError
from laformer.maps import RowsInMemory
from laformer.memory import Size, plan_stripes
from laformer.model import LAformer
from laformer.restore import Restorer
from laformer.stripes import restore_in_stripes
from tests import networks

TINY = SIZES["tiny"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

configs = st.builds(
    ModelConfig,
    dim=st.just(8),
    head_dim=st.just(4),
    blocks=st.sampled_from([(1, 1, 1, 1), (2, 1, 1, 2)]),
    refinement=st.just(1),
    expansion=st.just(1.5),
    combination=st.sampled_from(["parallel", "alternating", "sequential", "spatial"]),
    phi=st.sampled_from(["elu", "relu"]),
    scale=st.sampled_from([1, 2, 3]),
    kernel=st.sampled_from([0, 3, 5, 7]),
)


def awake(config, dtype=torch.float32):
    """Return a network whose blocks do something and whose norms turn zeros into more."""
    torch.manual_seed(0)
    model = LAformer(config).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def image(height, width, dtype=torch.float32, channels=3):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(1, channels, height, width, generator=generator, dtype=dtype)


def assert_equal(model, lq, **options):
    with torch.no_grad():
        whole = model(lq)
    tolerance = TOLERANCE[lq.dtype] * max(1.0, float(whole.abs().max()))
    difference = (restore_in_stripes(model, lq, **options) - whole).abs().max()
    assert difference <= tolerance


@settings(deadline=None, max_examples=30)
@given(
    config=configs,
    height=st.integers(1, 60),
    width=st.integers(1, 40),
    stripe_rows=st.integers(1, 70),
)
def test_stripes_equal_the_whole_image(config, height, width, stripe_rows):
    # Random weights can make a map of ReLU features divide by next to nothing: in float64 what is
    # left is what stripes do, not what rounding does.
    model = awake(config, torch.float64)
    assert_equal(model, image(height, width, torch.float64), stripe_rows=stripe_rows)


@pytest.mark.parametrize("combination", ["parallel", "alternating", "sequential", "spatial"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (37, 21), (64, 40), (90, 33)])
@pytest.mark.parametrize("stripe_rows", [1, 8, 50])
def test_float32_differs_by_rounding_alone(combination, height, width, stripe_rows):
    config = dataclasses.replace(TINY, combination=combination, blocks=(2, 1, 1, 2))
    assert_equal(awake(config), image(height, width), stripe_rows=stripe_rows)


@pytest.mark.parametrize("combination", ["parallel", "alternating", "sequential", "spatial"])
@pytest.mark.parametrize("kernel", [0, 3, 5, 7])
@pytest.mark.parametrize("stripe_rows", [1, 5])
def test_every_mode_in_float64(combination, kernel, stripe_rows):
    config = ModelConfig(
        dim=8,
        head_dim=4,
        blocks=(2, 1, 1, 2),
        refinement=1,
        expansion=1.5,
        combination=combination,
        kernel=kernel,
    )
    assert_equal(
        awake(config, torch.float64), image(19, 11, torch.float64), stripe_rows=stripe_rows
    )


def test_batches_layouts_and_dual_pixel_pairs():
    config = ModelConfig(
        dim=8, head_dim=4, blocks=(1, 1, 1, 1), refinement=1, expansion=1.5, in_channels=6
    )
    model = awake(config)
    lq = torch.cat([image(30, 22, channels=6), image(30, 22, channels=6).flip(3)])
    assert_equal(model, lq, stripe_rows=8)
    assert_equal(model, lq.contiguous(memory_format=torch.channels_last), stripe_rows=8)


def test_half_floats_stay_near_the_whole_image():
    model, lq = awake(TINY).bfloat16(), image(40, 40)
    with torch.no_grad():
        whole = model(lq)
    striped = restore_in_stripes(model, lq, stripe_rows=8)
    assert striped.dtype == whole.dtype == torch.float32
    torch.testing.assert_close(striped, whole, atol=0.1 * float(whole.abs().max()), rtol=0)


def size_of(model, lq):
    height, width = lq.shape[2:]
    return Size(config=model.config, height=height, width=width, dtype=lq.dtype)


def least_bytes(model, lq, stripe_rows=None):
    """Return the budget that the error names: enough with feature maps in files alone."""
    with pytest.raises(ModelError) as error:
        restore_in_stripes(model, lq, stripe_rows=stripe_rows, memory_bytes=1000)
    budget = int(str(error.value).rpartition("=")[2])
    assert plan_stripes(size_of(model, lq), lq.device, budget, stripe_rows).maps == "files"
    return budget


def test_maps_in_files_equal_maps_in_memory_and_leave_nothing(tmp_path):
    model, lq = awake(TINY), image(70, 52)
    budget = least_bytes(model, lq, stripe_rows=8)
    in_files = restore_in_stripes(model, lq, memory_bytes=budget, stripe_rows=8, scratch=tmp_path)
    assert torch.equal(in_files, restore_in_stripes(model, lq, stripe_rows=8))
    assert list(tmp_path.iterdir()) == []


def test_a_map_on_the_host_comes_back_to_the_device_of_the_model():
    """On the device "meta", which has no values, places can be told apart without a GPU."""
    like = torch.empty(1, 4, 2, 5, device="meta")
    rows = RowsInMemory(like, 6, torch.device("cpu"))
    assert rows.data.device.type == "cpu"
    assert rows.read(1, 3).device.type == "meta"
    assert rows.read(1, 3).shape == (1, 4, 2, 5)


def test_an_error_on_the_way_leaves_nothing(tmp_path):
    def stop(fraction):
        if fraction > 0.3:
            raise KeyboardInterrupt

    lq = image(70, 52)
    budget = least_bytes(awake(TINY), lq, stripe_rows=8)
    options = {"memory_bytes": budget, "stripe_rows": 8, "scratch": tmp_path, "progress": stop}
    with pytest.raises(KeyboardInterrupt):
        restore_in_stripes(awake(TINY), lq, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batch", [1, 3])
def test_progress_rises_from_zero_to_one(batch):
    heard = []
    lq = image(40, 24).expand(batch, -1, -1, -1)
    restore_in_stripes(awake(TINY), lq, stripe_rows=16, progress=heard.append)
    assert heard == sorted(heard)
    assert heard[0] == 0.0
    assert heard[-1] == 1.0
    assert heard[-2] == pytest.approx(1.0)


def test_an_impossible_budget_names_value_rule_and_next_act():
    with pytest.raises(ModelError, match=r"memory_bytes 1000 is less than the \d+ .* use memory_b"):
        restore_in_stripes(awake(TINY), image(64, 64), memory_bytes=1000)


def test_the_budget_that_the_error_names_is_enough():
    model, lq = awake(TINY), image(64, 64)
    assert_equal(model, lq, memory_bytes=least_bytes(model, lq))


def test_stripes_higher_than_the_image_are_the_image():
    model, lq = awake(TINY), image(64, 64)
    budget = 2 * size_of(model, lq).whole_bytes(lq.device)
    assert_equal(model, lq, stripe_rows=5000, memory_bytes=budget)


@pytest.mark.parametrize("stripe_rows", [0, -3])
def test_stripes_have_at_least_one_row(stripe_rows):
    with pytest.raises(ModelError, match=f"stripe_rows {stripe_rows} is less than 1"):
        restore_in_stripes(awake(TINY), image(16, 16), stripe_rows=stripe_rows)


def test_a_restorer_gives_the_same_pixels_under_any_budget():
    pixels = image(70, 52)[0].permute(1, 2, 0).numpy()
    whole = Restorer(awake(TINY), torch.device("cpu"))
    size = size_of(whole.model, image(70, 52))
    budget = size.map_bytes() + size.stripe_bytes(8)
    assert budget < size.whole_bytes()
    options = InferenceConfig(memory_bytes=budget)
    striped = Restorer(awake(TINY), torch.device("cpu"), options)
    expected = whole(pixels)
    assert abs(striped(pixels) - expected).max() <= 1e-5 * abs(expected).max()


def test_a_restorer_of_half_floats_is_near_and_loses_no_level_of_the_image(tmp_path):
    state = networks.state(networks.config())
    nn.init.zeros_(state.ema["head.weight"])
    checkpoint.save(tmp_path / "model", state, {})
    pixels = np.arange(65536, dtype=np.uint16)[: 96 * 96 * 3].reshape(96, 96, 3)
    restorer = Restorer.load(tmp_path / "model", "cpu", InferenceConfig(precision="bfloat16"))
    assert np.array_equal(restorer(pixels), pixels)
