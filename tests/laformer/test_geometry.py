import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from laformer.geometry import BICUBIC_REACH, MULTIPLE, bicubic_weights, enlarge, pad_to_multiple

SCALES = [2, 3, 4, 8]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 9), (8, 16), (17, 4)])
def test_padding_reaches_multiples_and_keeps_the_image(size):
    x = torch.rand(1, 2, *size)
    padded = pad_to_multiple(x)
    assert [side % MULTIPLE for side in padded.shape[2:]] == [0, 0]
    assert torch.equal(padded[..., : size[0], : size[1]], x)


def test_padding_mirrors_and_a_tiny_image_repeats_its_edge():
    row = torch.arange(7.0).reshape(1, 1, 1, 7).expand(1, 1, 7, 7)
    assert pad_to_multiple(row)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 5]
    assert pad_to_multiple(row[..., :3])[0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("scale", SCALES)
def test_enlarging_agrees_with_an_independent_bicubic_away_from_the_border(scale):
    """With antialiasing PyTorch uses Keys' kernel too; its border rule differs."""
    x = torch.rand(2, 3, 16, 12, dtype=torch.float64)
    other = F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)
    inside = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    torch.testing.assert_close(enlarge(x, scale)[inside], other[inside], rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", SCALES)
def test_a_constant_stays_constant(scale):
    torch.testing.assert_close(bicubic_weights(scale).sum((1, 2, 3)), torch.ones(scale**2).double())
    x = torch.full((1, 1, 3, 4), 0.7)
    torch.testing.assert_close(enlarge(x, scale), torch.full((1, 1, 3 * scale, 4 * scale), 0.7))


@pytest.mark.parametrize("scale", SCALES)
def test_parts_fit_together(scale):
    x = torch.rand(1, 3, 20, 5, dtype=torch.float64)
    part = x[:, :, 6 - BICUBIC_REACH : 11 + BICUBIC_REACH]
    rows = enlarge(x, scale)[:, :, 6 * scale : 11 * scale]
    assert torch.equal(enlarge(part, scale, halo=BICUBIC_REACH), rows)
