"""One image: every context, memory that runs out, numbers that are none."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from laformer import attempts, checkpoint
from laformer.config import SIZES, InferenceConfig
from laformer.errors import ModelError
from laformer.memory import container_bytes
from laformer.model import LAformer
from laformer.restore import Restorer
from tests import networks

CPU = torch.device("cpu")


def restorer(scale=1, **options):
    torch.manual_seed(0)
    model = LAformer(dataclasses.replace(SIZES["tiny"], scale=scale))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    return Restorer(model, CPU, InferenceConfig(**options))


def noise(height=96, width=72, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_stripes_are_the_whole_image_to_a_level(dtype, channels):
    pixels = noise(channels=channels, dtype=dtype)
    whole, stripes = (restorer(context=each).restore(pixels) for each in ("whole", "stripes"))
    assert (whole.how, stripes.how) == ("whole", "stripes")
    assert whole.pixels.dtype == dtype
    assert whole.pixels.shape == pixels.shape
    assert abs(whole.pixels.astype(int) - stripes.pixels).max() <= 1


@pytest.mark.parametrize("scale", [1, 3])
def test_tiles_say_so_and_an_image_of_one_tile_is_the_whole(scale):
    pixels = noise(40, 30)
    tiled = restorer(scale, context="tiles", tile_px=64, overlap_px=16).restore(pixels)
    assert tiled.how == "tiles 64/16"
    np.testing.assert_array_equal(tiled.pixels, restorer(scale).restore(pixels).pixels)
    several = restorer(scale, context="tiles", tile_px=32, overlap_px=8).restore(pixels)
    assert several.pixels.shape == (40 * scale, 30 * scale, 3)


def test_auto_takes_stripes_where_the_whole_does_not_fit():
    assert restorer().restore(noise()).how == "whole"
    assert restorer(memory_bytes=14_000_000).restore(noise(300, 300)).how == "stripes"


def test_the_ensemble_turns_back_what_it_turned():
    pixels = noise(24, 40)
    chosen = restorer(ensemble=True)
    found = chosen.restore(pixels)
    assert found.how == "whole, mean of 8 turns"
    nn.init.zeros_(chosen.model.head.weight)  # the network now returns what it is given
    np.testing.assert_array_equal(chosen.restore(pixels).pixels, pixels)


def test_the_ensemble_of_a_turned_image_is_the_turned_ensemble():
    pixels, chosen = noise(24, 40), restorer(ensemble=True)
    turned = chosen(np.ascontiguousarray(np.rot90(pixels)))
    assert abs(np.rot90(chosen(pixels)).astype(int) - turned).max() <= 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
    ],
)
@pytest.mark.parametrize("context", ["whole", "tiles"])
def test_memory_that_runs_out_makes_stripes_of_half_the_budget(error, context, monkeypatch):
    chosen = restorer(context=context, tile_px=64, overlap_px=8)
    expected = chosen(noise())
    stripes, budgets = attempts.restore_in_stripes, []

    def scarce(model, lq, *, memory_bytes):
        budgets.append(memory_bytes)
        if len(budgets) < 3:
            raise error
        return stripes(model, lq, memory_bytes=memory_bytes)

    def refuse(self, lq):
        raise error

    monkeypatch.setattr(LAformer, "forward", refuse)
    monkeypatch.setattr(attempts, "restore_in_stripes", scarce)
    found = chosen.restore(noise())
    first = "tiles 64/8" if context == "tiles" else "stripes"
    assert found.how == f"{first}, after running out of memory"
    assert budgets[:3] == [budgets[0], budgets[0] // 2, budgets[0] // 4]
    assert abs(found.pixels.astype(int) - expected).max() <= 1


def test_too_little_memory_for_any_stripe_is_an_error_that_says_what_to_do():
    with pytest.raises(ModelError, match=r"72 x 96 pixels do not fit.*use --context tiles"):
        restorer(context="stripes", memory_bytes=1000).restore(noise())


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(self, lq):
        raise RuntimeError("something else")

    monkeypatch.setattr(LAformer, "forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        restorer().restore(noise())


def test_half_floats_that_give_no_numbers_are_done_again_in_float32(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "model", networks.state(networks.config()), {})
    forward = LAformer.forward

    def overflowing(self, lq):
        half = self.embed.weight.dtype == torch.bfloat16
        return forward(self, lq) * (float("nan") if half else 1)

    expected = Restorer.load(tmp_path / "model", "cpu")(noise())
    monkeypatch.setattr(LAformer, "forward", overflowing)
    half = Restorer.load(tmp_path / "model", "cpu", InferenceConfig(precision="bfloat16"))
    found = half.restore(noise())
    assert found.how == "whole, in float32 after bfloat16 gave no numbers"
    np.testing.assert_array_equal(found.pixels, expected)


@pytest.mark.parametrize("context", ["whole", "stripes", "tiles"])
def test_no_numbers_in_float32_is_an_error(context):
    chosen = restorer(context=context)
    nn.init.constant_(chosen.model.head.weight, float("nan"))
    with pytest.raises(ModelError, match="no numbers"):
        chosen.restore(noise())


def test_parts_are_the_tiles_of_the_whole():
    pixels, chosen, rows = noise(150, 90), restorer(context="tiles", tile_px=64, overlap_px=32), []

    def source(top, left, height, width):
        return pixels[top : top + height, left : left + width]

    assert chosen.restore_parts(source, rows.append, pixels.shape) == "tiles 64/32"
    np.testing.assert_array_equal(np.concatenate(rows), chosen(pixels))
    with pytest.raises(ModelError, match="use --context auto or tiles instead of stripes"):
        restorer(context="stripes").restore_parts(source, rows.append, pixels.shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 100}, "tile_px 100 is not a multiple of 8 from 32 on; use 96"),
        ({"tile_px": 64, "overlap_px": 33}, "overlap_px 33 is outside 0 to 32"),
        ({"memory_bytes": 0}, "memory_bytes 0 is less than 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InferenceConfig(**options)


def test_what_decides_the_pixels_leaves_out_what_rounds_them():
    whole, stripes = (InferenceConfig(context=each).pixels() for each in ("whole", "stripes"))
    assert whole == stripes
    assert InferenceConfig(memory_bytes=1).pixels() == InferenceConfig().pixels()
    others = [
        InferenceConfig(context="tiles"),
        InferenceConfig(context="tiles", tile_px=256),
        InferenceConfig(ensemble=True),
        InferenceConfig(precision="bfloat16"),
    ]
    assert len({str(each.pixels()) for each in [InferenceConfig(), *others]}) == 5


def test_a_container_gives_away_what_its_bound_leaves(tmp_path):
    assert container_bytes(tmp_path) == []
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert container_bytes(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert container_bytes(tmp_path) == [350]


def test_neighbours_share_what_is_free(monkeypatch):
    budgets, stripes = [], attempts.restore_in_stripes

    def counted(model, lq, *, memory_bytes):
        budgets.append(memory_bytes)
        return stripes(model, lq, memory_bytes=memory_bytes)

    monkeypatch.setattr(attempts, "restore_in_stripes", counted)
    monkeypatch.setattr(attempts, "free_bytes", lambda _: 6 * 10**9)
    chosen = restorer(context="stripes")
    chosen(noise())
    dataclasses.replace(chosen, neighbours=4)(noise())
    assert budgets == [3 * 10**9, 10**9]
