"""The claims that RELA stands on, and what makes an image divisible."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from laformer.attention import (
    EPS,
    RELA,
    TOKENS_AT_ONCE,
    ChannelAttention,
    FeedForward,
    LayerNorm,
    attend,
    feature_map,
    summarise,
)


def quadratic_map(q, k):
    """Return the normalised attention map (N, N) that the linear form never builds."""
    num = k.shape[0]
    scores = q @ k.T / num
    return scores / (scores.sum(dim=1, keepdim=True) + EPS)


@pytest.mark.parametrize("phi", ["elu", "relu"])
def test_linear_form_equals_quadratic_form(phi):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 64, 8, generator=generator, dtype=torch.float64) for _ in "qkv")
    linear = attend(q, summarise(k, v, phi), phi)
    q, k = feature_map(q, phi), feature_map(k, phi)
    for b in range(2):
        for h in range(3):
            torch.testing.assert_close(
                linear[b, h], quadratic_map(q[b, h], k[b, h]) @ v[b, h], rtol=1e-12, atol=1e-12
            )


@pytest.mark.parametrize("phi", ["elu", "relu"])
@pytest.mark.parametrize("width", [8, 16, 32, 48])
def test_the_depthwise_branch_gives_the_map_full_rank(phi, width):
    """Rank d without the branch, rank N with it: the paper's point. 16 x 16 tokens."""
    side, generator = 16, torch.Generator().manual_seed(width)
    num = side * side
    q, k = (
        feature_map(torch.randn(num, width, generator=generator, dtype=torch.float64), phi)
        for _ in "qk"
    )
    linear = quadratic_map(q, k)
    assert torch.linalg.matrix_rank(linear) == width
    assert torch.linalg.matrix_rank(linear + toeplitz(side, kernel=5, generator=generator)) == num


def toeplitz(side, kernel, generator):
    """Return the matrix (N, N) of a depthwise convolution of one channel: its columns are its
    answers to unit images."""
    weight = torch.randn(1, 1, kernel, kernel, generator=generator, dtype=torch.float64)
    units = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side)
    return torch.nn.functional.conv2d(units, weight, padding=kernel // 2).flatten(1).T


def test_rela_is_attention_plus_the_depthwise_branch():
    torch.manual_seed(0)
    rela = RELA(16, head_dim=8, phi="elu", kernel=5).double()
    plain = RELA(16, head_dim=8, phi="elu", kernel=0).double()
    plain.load_state_dict(rela.state_dict(), strict=False)
    x = torch.randn(2, 16, 9, 7, dtype=torch.float64)
    v = rela.qkv(x).chunk(3, dim=1)[2]
    torch.testing.assert_close(rela(x), plain(x) + rela.project(rela.local(v)))


def test_sums_of_parts_add_up_to_the_sums_of_the_whole():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 60, 8, dtype=torch.float64) for _ in "qkv")
    parts = [summarise(k[:, :, a:b], v[:, :, a:b], "elu") for a, b in ((0, 7), (7, 40), (40, 60))]
    added = parts[0].add(parts[1]).add(parts[2])
    whole = summarise(k, v, "elu")
    torch.testing.assert_close(attend(q, added, "elu"), attend(q, whole, "elu"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("phi", ["elu", "relu"])
def test_tokens_in_parts_give_what_they_give_at_once(phi):
    """Without gradients a CPU takes a few thousand at a time."""
    torch.manual_seed(0)
    qkv = torch.randn(2, TOKENS_AT_ONCE * 2 + 77, 3, 2, 8, dtype=torch.float64)
    q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    at_once = attend(q, summarise(k, v, phi), phi)
    with torch.no_grad():
        in_parts = attend(q, summarise(k, v, phi), phi)
    torch.testing.assert_close(in_parts, at_once, rtol=1e-12, atol=1e-14)


def test_the_feature_map_is_elu_plus_one_with_its_gradient():
    x = torch.linspace(-30, 30, 601, dtype=torch.float64, requires_grad=True)
    ours, theirs = feature_map(x, "elu"), F.elu(x) + 1
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), x), torch.autograd.grad(theirs.sum(), x)
    )


def test_a_million_half_float_tokens_stay_finite():
    k = torch.full((1, 1, 1024**2, 16), 8.0, dtype=torch.float16)
    out = attend(k[:, :, :4], summarise(k, k, "elu"), "elu")
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, torch.full_like(out, 8.0))


def test_tokens_without_a_positive_query_pass_the_branch_alone():
    sums = summarise(torch.ones(1, 1, 5, 4), torch.ones(1, 1, 5, 4), "relu")
    assert attend(-torch.rand(1, 1, 3, 4), sums, "relu").abs().max() == 0


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layout_changes_nothing(memory_format):
    torch.manual_seed(0)
    layers = [
        RELA(16, head_dim=8, phi="elu", kernel=3),
        ChannelAttention(16),
        FeedForward(16, expansion=1.5),
        LayerNorm(16),
    ]
    x = torch.randn(2, 16, 6, 10)
    for layer in layers:
        expected = layer(x)
        torch.testing.assert_close(layer(x.contiguous(memory_format=memory_format)), expected)
        assert expected.shape == x.shape


LAYERS = {
    "rela, elu": lambda: RELA(4, head_dim=2, phi="elu", kernel=3),
    "rela, relu": lambda: RELA(4, head_dim=2, phi="relu", kernel=5),
    "linear attention": lambda: RELA(4, head_dim=4, phi="elu", kernel=0),
    "channel attention": lambda: ChannelAttention(4),
    "feed-forward": lambda: FeedForward(4, expansion=2),
    "norm": lambda: LayerNorm(4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_right(name):
    """Of the input and of every weight, against finite differences."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *inputs: layer(inputs[0]), (x, *layer.parameters()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_floats_are_float32(dtype):
    """4096 values of 1 + 2**-7: in bfloat16 a running sum would stop growing at 256."""
    k = torch.full((1, 1, 4096, 2), 1 + 2**-7, dtype=dtype)
    sums = summarise(k, k, "relu")
    assert sums.kv.dtype == sums.k.dtype == torch.float32
    torch.testing.assert_close(sums.k, torch.full_like(sums.k, 4096 * (1 + 2**-7)))
    torch.testing.assert_close(sums.kv, torch.full_like(sums.kv, 4096 * (1 + 2**-7) ** 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("phi", ["elu", "relu"])
def test_attention_of_half_floats_is_as_near_as_they_are(dtype, phi):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 3000, 8, generator=generator) for _ in "qkv")
    expected = attend(q, summarise(k, v, phi), phi)
    found = attend(q.to(dtype), summarise(k.to(dtype), v.to(dtype), phi), phi)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=float(torch.finfo(dtype).eps))


def test_autocast_leaves_the_sums_in_float32():
    rela, x = RELA(4, head_dim=2, phi="elu", kernel=3), torch.randn(1, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert rela.summarise(torch.nn.functional.pad(x, (0, 0, 1, 1))).kv.dtype == torch.float32
        assert rela(x).dtype == torch.bfloat16


@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e4])
@pytest.mark.parametrize("name", LAYERS)
def test_constant_maps_have_finite_values_and_gradients(name, value):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = torch.full((1, 4, 6, 5), value, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(x.grad).all()
