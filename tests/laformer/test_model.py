import pytest
import torch
from torch import nn

from laformer.config import SIZES, ModelConfig
from laformer.geometry import enlarge
from laformer.model import Block, LAformer, num_parameters

SMALL = {"dim": 8, "head_dim": 4, "blocks": (1, 1, 1, 1), "refinement": 1, "expansion": 1.5}


def awake(**options):
    """Return a small network whose blocks are no longer the identity they begin as."""
    torch.manual_seed(0)
    model = LAformer(ModelConfig(**(SMALL | options)))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("combination", ["parallel", "alternating", "sequential", "spatial"])
@pytest.mark.parametrize("phi", ["elu", "relu"])
@pytest.mark.parametrize("kernel", [0, 3, 5, 7])
def test_every_mode_keeps_size_and_is_finite(combination, phi, kernel):
    model = awake(combination=combination, phi=phi, kernel=kernel, blocks=(2, 1, 1, 2))
    out = model(torch.rand(2, 3, 24, 16))
    assert out.shape == (2, 3, 24, 16)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (7, 7), (8, 8), (13, 21), (33, 5)])
def test_any_size_down_to_one_pixel(size):
    out = awake()(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, *size)
    assert torch.isfinite(out).all()


def test_training_starts_at_the_input_image():
    model = LAformer(SIZES["tiny"])
    nn.init.zeros_(model.head.weight)
    lq = torch.rand(1, 3, 17, 19)
    torch.testing.assert_close(model(lq), lq)


@pytest.mark.parametrize("combination", ["parallel", "alternating", "sequential", "spatial"])
def test_gradient_reaches_every_parameter(combination):
    model = awake(combination=combination, blocks=(2, 2, 2, 2))
    model(torch.rand(1, 3, 16, 16)).square().mean().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_dual_pixel_pairs_and_grey():
    assert awake(in_channels=6)(torch.rand(1, 6, 8, 8)).shape == (1, 3, 8, 8)
    assert awake(in_channels=1, out_channels=1)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (13, 21)])
def test_super_resolution_enlarges_any_size(scale, size):
    out = awake(scale=scale)(torch.rand(1, 3, *size))
    assert out.shape == (1, 3, size[0] * scale, size[1] * scale)


def test_super_resolution_starts_at_bicubic():
    model = LAformer(ModelConfig(**SMALL, scale=2))
    nn.init.zeros_(model.head.weight)
    lq = torch.rand(1, 3, 16, 24)
    torch.testing.assert_close(model(lq), enlarge(lq, 2))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_are_finite(value):
    assert torch.isfinite(awake()(torch.full((1, 3, 16, 16), value))).all()


def test_the_last_convolution_and_the_image_are_float32_under_half_floats():
    """A bfloat16 network returns the image itself where it answers nothing: no level is lost."""
    model = awake().bfloat16()
    nn.init.zeros_(model.head.weight)
    lq = torch.rand(1, 3, 16, 16)
    features = torch.rand(1, 16, 16, 16).bfloat16()
    answer = model.answer(features, lq)
    assert answer.dtype == torch.float32
    assert torch.equal(answer, lq)


def test_alternating_counts_blocks_through_the_network():
    model = LAformer(ModelConfig(**SMALL, combination="alternating"))
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    assert [block.rela is None for block in blocks] == [False, True] * 4
    assert [block.channel is None for block in blocks] == [True, False] * 4


def test_autocast_keeps_the_image_in_float32():
    model = awake()
    lq = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(lq)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, model(lq), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(("size", "million"), [("tiny", 0.44), ("small", 7.9), ("base", 31.7)])
def test_named_sizes_have_the_parameters_the_docs_state(size, million):
    assert num_parameters(LAformer(SIZES[size])) / 1e6 == pytest.approx(million, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 9, "head_dim": 9}, "dim 9 is odd, but the way down halves channels; use dim=10"),
        ({"refinement": -1}, "refinement -1 is less than 0; use 0"),
        ({"dim": 10, "head_dim": 4}, "dim 10 is not a multiple of head_dim 4"),
        ({"kernel": 4}, "kernel 4 is not one of 0, 3, 5, 7"),
        ({"blocks": (1, 0, 1, 1)}, "does not give each of 4 levels at least one"),
        ({"scale": 5}, r"scale 5 is not one of \(1, 2, 3, 4, 8\); use 1"),
        ({"in_channels": 1}, "in_channels 1 is less than out_channels 3"),
    ],
)
def test_wrong_options_name_value_rule_and_fix(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**(SMALL | options))
