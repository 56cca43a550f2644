"""The Triton kernels against their twins in PyTorch, on the CPU by Triton's interpreter."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from laformer import attention as layers
from laformer.model import LAformer
from laformer.stripes import restore_in_stripes
from tests.networks import MODEL

triton = pytest.importorskip("triton")

# Of values around 1. One ulp of bfloat16 is 2**-8 there; the interpreter cuts where a GPU rounds.
TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float16: {"rtol": 2**-9, "atol": 2e-3},
    torch.bfloat16: {"rtol": 2**-6, "atol": 2e-2},
}
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def kernels():
    """Return a copy of laformer.kernels that runs interpreted; the imported one stays as it is.

    Triton reads the flag whenever it decorates a kernel: those of its own library, such as tl.sum,
    when something first imported it. So they too are decorated again, for as long as this lasts.
    """
    path = Path(__file__).parents[2] / "laformer" / "kernels.py"
    spec = importlib.util.spec_from_file_location("interpreted_kernels", path)
    copy = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for module in (triton.language, triton.language.standard):
            for name, value in list(vars(module).items()):
                if isinstance(value, triton.JITFunction):
                    patch.setattr(module, name, triton.jit(value.fn))
        spec.loader.exec_module(copy)
        yield copy


def normal(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


def close(actual, expected, dtype):
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual.float(), expected, **TOLERANCES[dtype])


def feature(x, phi):
    return F.elu(x.float()) + 1 if phi == "elu" else F.relu(x.float())


def gated(x, weight, halo):
    x, weight = x.float(), weight.float()
    both = F.conv2d(x, weight, padding=(1 - halo, 1), groups=weight.shape[0])
    a, b = both.chunk(2, dim=1)
    return F.gelu(a) * b


def sums(k, v, phi):
    keys = feature(k, phi).to(k.dtype).float()
    return keys.transpose(-2, -1) @ v.float(), keys.sum(dim=2, keepdim=True)


def attention(q, kv, ksum, num, phi):
    queries = feature(q, phi)
    return queries @ (kv / num) / (queries @ (ksum / num).transpose(-2, -1) + 1e-6)


@pytest.mark.parametrize("halo", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 3), (5, 8)])
def test_gated_depthwise_equals_its_twin(kernels, size, halo):
    height, width = size
    x = channels_last(normal(1, 6, height + 2 * halo, width))
    weight = normal(6, 1, 3, 3, seed=1) / 3
    out = kernels.gated_depthwise(x, weight, halo)
    close(out, gated(x, weight, halo), torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("halo", [0, 1])
def test_gated_depthwise_takes_any_strides_batches_and_more_channels_than_a_tile(kernels, halo):
    weight = normal(134, 1, 3, 3, seed=1) / 3
    planes = normal(2, 134, 4 + 2 * halo, 3)
    every_other = normal(2, 134, 4 + 2 * halo, 6)[..., ::2]
    for x in (planes, every_other):
        close(kernels.gated_depthwise(x, weight, halo), gated(x, weight, halo), torch.float32)


@pytest.mark.parametrize("dtype", HALVES)
def test_gated_depthwise_in_half_floats(kernels, dtype):
    x = channels_last(normal(1, 10, 6, 7, dtype=dtype))
    weight = (normal(10, 1, 3, 3, seed=1) / 3).to(dtype)
    out = kernels.gated_depthwise(x, weight, 0)
    assert out.dtype == dtype
    close(out, gated(x, weight, 0), dtype)


def test_a_part_with_its_halo_equals_the_rows_of_the_whole(kernels):
    x, weight = channels_last(normal(1, 4, 12, 5)), normal(4, 1, 3, 3, seed=1)
    whole = kernels.gated_depthwise(x, weight, 0)
    part = kernels.gated_depthwise(x[:, :, 3:9], weight, 1)
    assert torch.equal(part, whole[:, :, 4:8])


def tokens(batch, heads, num, dim, dtype=torch.float32):
    """Return q, k, v (B, heads, N, d) as RELA has them: views of one channels_last projection."""
    together = normal(batch, num, 3, heads, dim, dtype=dtype)
    return together.permute(2, 0, 3, 1, 4)


@pytest.mark.parametrize("phi", ["elu", "relu"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 4), (2, 3, 65, 8), (2, 1, 130, 20), (1, 2, 64, 48), (1, 1, 90, 64)]
)
def test_linear_attention_equals_its_twin(kernels, shape, phi):
    q, k, v = tokens(*shape)
    num = shape[2]
    kv, ksum = kernels.key_value_sums(k, v, phi)
    expected = sums(k, v, phi)
    close(kv / num, expected[0] / num, torch.float32)
    close(ksum / num, expected[1] / num, torch.float32)
    out = kernels.attend(q, kv, ksum, num, phi)
    close(out, attention(q, *expected, num, phi), torch.float32)
    batch, heads, _, dim = shape
    flat = out.transpose(1, 2).reshape(batch, num, heads * dim)
    assert flat.data_ptr() == out.data_ptr()


@pytest.mark.parametrize("phi", ["elu", "relu"])
@pytest.mark.parametrize("dtype", HALVES)
def test_linear_attention_in_half_floats(kernels, dtype, phi):
    q, k, v = tokens(2, 2, 100, 20, dtype=dtype)
    kv, ksum = kernels.key_value_sums(k, v, phi)
    assert kv.dtype == ksum.dtype == torch.float32
    expected = sums(k, v, phi)
    close(kv / 100, expected[0] / 100, dtype)
    close(ksum / 100, expected[1] / 100, dtype)
    out = kernels.attend(q, *expected, 100, phi)
    assert out.dtype == dtype
    close(out, attention(q, *expected, 100, phi), dtype)


def test_linear_attention_takes_planes_and_parts_of_an_image(kernels):
    """Tokens of an image that is not channels_last; sums of two parts, added, are the whole's."""
    q, k, v = (normal(2, 12, 90, seed=seed).view(2, 2, 6, 90).transpose(2, 3) for seed in range(3))
    parts = [
        kernels.key_value_sums(k[:, :, a:b], v[:, :, a:b], "elu") for a, b in [(0, 40), (40, 90)]
    ]
    kv, ksum = (a + b for a, b in zip(*parts, strict=True))
    expected = attention(q[:, :, :40], *sums(k, v, "elu"), 90, "elu")
    close(kernels.attend(q[:, :, :40], kv, ksum, 90, "elu"), expected, torch.float32)


def test_sums_over_many_programs_are_added_in_order(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "PROGRAMS", 6)
    _, k, v = tokens(1, 2, 700, 4)
    once, again = (kernels.key_value_sums(k, v, "elu") for _ in range(2))
    for first, second, expected in zip(once, again, sums(k, v, "elu"), strict=True):
        assert torch.equal(first, second)
        close(first / 700, expected / 700, torch.float32)


@pytest.mark.parametrize("phi", ["elu", "relu"])
def test_sums_of_a_large_image_stay_finite_in_float16(kernels, monkeypatch, phi):
    """2**17 tokens of 8: their sum is beyond float16, and so would be that of a 362 x 362 image."""
    monkeypatch.setattr(kernels, "TOKENS", 2**14)
    k = torch.full((1, 1, 2**17, 4), 8.0, dtype=torch.float16)
    kv, ksum = kernels.key_value_sums(k, k, phi)
    key = 9.0 if phi == "elu" else 8.0
    assert torch.equal(kv, torch.full_like(kv, key * 8 * 2**17))
    out = kernels.attend(k[:, :, :64], kv, ksum, 2**17, phi)
    assert torch.equal(out, k[:, :, :64])


def test_the_network_is_the_same_with_kernels(kernels, monkeypatch):
    model = LAformer(MODEL).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    lq = torch.rand(1, 3, 16, 8)
    with torch.no_grad():
        plain = model(lq)
        monkeypatch.setattr(layers, "kernels", kernels)
        torch.testing.assert_close(model(lq), plain, rtol=1e-4, atol=1e-5)
        striped = restore_in_stripes(model, lq, stripe_rows=8)
    torch.testing.assert_close(striped, plain, rtol=1e-4, atol=1e-5)


def test_kernels_that_disagree_rest(kernels, monkeypatch):
    kernels.agree.cache_clear()
    assert kernels.agree(torch.device("cpu"))
    monkeypatch.setattr(kernels, "attend", lambda q, *_: q)
    kernels.agree.cache_clear()
    with pytest.warns(UserWarning, match="the kernels rest on cpu"):
        assert not kernels.agree(torch.device("cpu"))
    kernels.agree.cache_clear()


def test_kernels_are_for_inference_in_three_dtypes(kernels, monkeypatch):
    x = torch.ones(1)
    assert kernels.usable(x)
    assert not kernels.usable(x.double())
    learned = torch.ones(1, requires_grad=True)
    assert not kernels.usable(learned)
    assert not kernels.usable(x, learned)
    with torch.no_grad():
        assert kernels.usable(learned)
    monkeypatch.setattr(kernels, "INTERPRETED", False)
    assert not kernels.usable(x)
    monkeypatch.setattr(kernels, "INTERPRETED", True)
    monkeypatch.setattr(kernels, "triton", None)
    assert not kernels.usable(x)
