from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nashquant import ops
from nashquant.ops import _torch

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def limits(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_on_an_edge_is_in_the_bin_above_and_nan_in_none(path, dtype):
    x = torch.tensor([0.0, -0.0, 1.0, -2.0, 3.5, 4.0, math.inf, -math.inf, math.nan], dtype=dtype, requires_grad=True)
    counts = ops.histogram_per_tensor(x, 4.0, 4)
    assert (counts.dtype, counts.tolist()) == (torch.int64, [2, 1, 1, 4])
    assert ops.histogram_per_tensor(x, 0.0, 3).tolist() == [6, 0, 0]


def test_nothing_is_counted_as_nothing_and_a_scalar_as_one(path):
    assert ops.histogram_per_tensor(torch.empty(0), 1.0, 3).tolist() == [0, 0, 0]
    assert ops.histogram_per_tensor(torch.tensor(-0.5), 1.0, 3).tolist() == [0, 1, 0]
    assert ops.histogram_per_channel(torch.empty(2, 0), 1, limits(), 3).shape == (0, 3)
    assert ops.histogram_per_channel(torch.empty(2, 0), 0, limits(1, 1), 2).tolist() == [[0, 0], [0, 0]]


def test_inside_the_limit_torch_counts_the_same():
    x = torch.randn(100_000)
    limit = 8.0  # bins of a power of two: histc computes in f32
    assert ops.histogram_per_tensor(x, limit, 2048).tolist() == torch.histc(x.abs(), 2048, 0, limit).long().tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("order", ["plain", "channels_last", "sliced"])
def test_per_channel_equals_the_reference(dtype, axis, order):
    x = torch.randn(6, 12, 9, 7).to(dtype)
    x = {"plain": x, "channels_last": x.to(memory_format=torch.channels_last), "sliced": x[1:, ::2, :, 2:]}[order]
    limit = torch.rand(x.shape[axis], dtype=torch.float64) * 3
    counts = ops.histogram_per_channel(x, axis, limit, 100)
    assert torch.equal(counts, _torch.histogram_per_channel(x, axis, limit, 100))
    assert (counts.sum(1) == x.numel() // x.shape[axis]).all()


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(width=32), max_size=200),
    limit=st.floats(0, 1e30),
    bins=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
)
def test_equals_the_reference_on_anything(values, limit, bins, dtype):
    x = torch.tensor(values, dtype=dtype)
    assert torch.equal(ops.histogram_per_tensor(x, limit, bins), _torch.histogram_per_tensor(x, limit, bins))


def test_the_number_of_threads_changes_nothing():
    x = torch.randn(300_000)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append((ops.histogram_per_tensor(x, 4.0, 2048), ops.percentile_per_tensor(x, 99.99)))
    torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_what_is_wrong_is_said(path):
    for limit, spelled in ((-1, "-1.0"), (math.nan, "NaN"), (math.inf, "inf")):
        with pytest.raises(ValueError, match=rf"^limit is {spelled}, but must be finite and not negative$"):
            ops.histogram_per_tensor(torch.ones(3), limit, 4)
    with pytest.raises(ValueError, match=r"^limit\[1\] is -2.0, but must be finite and not negative$"):
        ops.histogram_per_channel(torch.ones(2, 3), 0, limits(1, -2), 4)
    with pytest.raises(ValueError, match=r"^limit has 1 elements, but 2 are needed$"):
        ops.histogram_per_channel(torch.ones(2, 3), 0, limits(1), 4)
    with pytest.raises(TypeError, match=r"^limit has dtype torch.float32, but must be torch.float64$"):
        ops.histogram_per_channel(torch.ones(2, 3), 0, torch.ones(2), 4)
    for bins in (0, -1):
        with pytest.raises(ValueError, match=r"^bins must be at least 1$"):
            ops.histogram_per_tensor(torch.ones(3), 1.0, bins)
    with pytest.raises(TypeError, match=r"^x has dtype torch.int64, but must be torch.float32, float64, bfloat16 or"):
        ops.histogram_per_tensor(torch.arange(3), 1.0, 4)
    with pytest.raises(IndexError, match=r"^axis is 2, but x has 2 dimensions$"):
        ops.histogram_per_channel(torch.ones(2, 3), 2, limits(1, 1), 4)
