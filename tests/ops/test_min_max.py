from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nashquant import ops
from nashquant.ops import _torch

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def rows(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.movedim(axis, 0).flatten(1)


def test_one_nan_makes_both_nan():
    low, high = ops.min_max_per_tensor(torch.tensor([1.0, math.nan, -5.0]))
    assert low.isnan()
    assert high.isnan()
    low, high = ops.min_max_per_channel(torch.tensor([[1.0, math.nan], [3.0, -4.0]]), 0)
    assert low.isnan().tolist() == high.isnan().tolist() == [True, False]
    assert (low[1], high[1]) == (-4, 3)


def test_infinities_are_values_and_no_zero_is_negative():
    low, high = ops.min_max_per_tensor(torch.tensor([-math.inf, 1.0, math.inf]))
    assert (low, high) == (-math.inf, math.inf)
    low, high = ops.min_max_per_tensor(torch.tensor([-0.0, -0.0]))
    assert not low.signbit()
    assert not high.signbit()


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_f32_whatever_the_dtype(dtype):
    x = torch.tensor([[0.1, -0.7], [2.5, 3.0]], dtype=dtype, requires_grad=True)
    low, high = ops.min_max_per_tensor(x)
    assert (low.dtype, low.shape, low.requires_grad) == (torch.float32, (), False)
    assert (low, high) == (x.min().float(), x.max().float())
    low, high = ops.min_max_per_channel(x, 1)
    assert (low.dtype, low.shape) == (torch.float32, (2,))
    assert torch.equal(low, x.detach().amin(0).float())
    assert torch.equal(high, x.detach().amax(0).float())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("layout", ["plain", "channels_last", "permuted", "sliced"])
def test_per_channel_equals_torch_in_every_layout(threads, axis, layout):
    x = torch.randn(16, 24, 19, 13)
    x = {
        "plain": x,
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "permuted": x.permute(3, 0, 2, 1),
        "sliced": x[1:, ::2, :, 3:],
    }[layout]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        low, high = ops.min_max_per_channel(x, axis)
        whole = ops.min_max_per_tensor(x)
    finally:
        torch.set_num_threads(before)
    expected = torch.aminmax(rows(x, axis), dim=1)
    assert torch.equal(low, expected.min)
    assert torch.equal(high, expected.max)
    assert whole == (x.min(), x.max())


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=200), dtype=st.sampled_from(DTYPES))
def test_equals_the_reference_on_anything(values, dtype):
    x = torch.tensor(values, dtype=dtype)
    for ours, theirs in zip(ops.min_max_per_tensor(x), _torch.min_max_per_tensor(x), strict=True):
        assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))
        assert ours.signbit() == theirs.signbit() or ours.isnan()


def test_a_scalar_and_a_vector_have_channels_too():
    assert ops.min_max_per_tensor(torch.tensor(3.0)) == (3, 3)
    low, high = ops.min_max_per_channel(torch.tensor([3.0, -1.0]), 0)
    assert low.tolist() == high.tolist() == [3, -1]


def test_nothing_has_no_minimum(path):
    with pytest.raises(ValueError, match=r"^x has no elements, so no minimum, maximum or scale$"):
        ops.min_max_per_tensor(torch.empty(0))
    with pytest.raises(ValueError, match=r"^x has no elements, so no minimum, maximum or scale$"):
        ops.min_max_per_channel(torch.empty(3, 0), 0)


def test_what_is_wrong_is_said(path):
    with pytest.raises(TypeError, match=r"^x has dtype torch.int64, but must be torch.float32, float64, bfloat16 or"):
        ops.min_max_per_tensor(torch.arange(3))
    with pytest.raises(IndexError, match=r"^axis is 2, but x has 2 dimensions$"):
        ops.min_max_per_channel(torch.ones(3, 2), 2)
    with pytest.raises(IndexError, match=r"^axis is 0, but x has 0 dimensions$"):
        ops.min_max_per_channel(torch.tensor(1.0), 0)
