from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nashquant import ops
from nashquant.ops import _torch

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_one_of_the_values(path, dtype):
    x = torch.tensor([3.0, -4.0, 1.0, -2.0], dtype=dtype, requires_grad=True)
    found = [ops.percentile_per_tensor(x, percentile) for percentile in (0, 25, 25.1, 50, 75, 99, 100)]
    assert [value.item() for value in found] == [1, 1, 2, 2, 3, 4, 4]
    assert (found[0].dtype, found[0].shape, found[0].requires_grad) == (torch.float32, (), False)


def test_a_share_that_is_a_whole_number_of_values_is_not_one_more(path):
    assert ops.percentile_per_tensor(torch.arange(1.0, 1001.0), 99.9) == 999


def test_nan_and_infinity_are_seen(path):
    assert ops.percentile_per_tensor(torch.tensor([1.0, math.nan, 2.0]), 10).isnan()
    assert ops.percentile_per_tensor(torch.tensor([1.0, -math.inf, 2.0]), 100) == math.inf
    assert ops.percentile_per_tensor(torch.tensor([1.0, -math.inf, 2.0]), 60) == 2
    assert not ops.percentile_per_tensor(torch.tensor(-0.0), 60).signbit()


@pytest.mark.parametrize("percentile", [1, 50, 98.9, 99.99])
def test_equals_kthvalue(percentile):
    x = torch.randn(200, 1000)[:, ::2]
    rank = math.ceil(100_000 * percentile / 100)
    assert ops.percentile_per_tensor(x, percentile) == x.abs().flatten().kthvalue(rank).values


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=200),
    percentile=st.floats(0, 100),
    dtype=st.sampled_from(DTYPES),
)
def test_equals_the_reference_on_anything(values, percentile, dtype):
    x = torch.tensor(values, dtype=dtype)
    ours, theirs = ops.percentile_per_tensor(x, percentile), _torch.percentile_per_tensor(x, percentile)
    assert torch.equal(ours, theirs) or (ours.isnan() and theirs.isnan())


def test_what_is_wrong_is_said(path):
    with pytest.raises(ValueError, match=r"^x has no elements, so no minimum, maximum or scale$"):
        ops.percentile_per_tensor(torch.empty(0), 50)
    for percentile, spelled in ((-1, "-1.0"), (100.5, "100.5"), (math.nan, "NaN")):
        with pytest.raises(ValueError, match=rf"^percentile is {spelled}, but must be from 0 to 100$"):
            ops.percentile_per_tensor(torch.ones(3), percentile)
    with pytest.raises(TypeError, match=r"^x has dtype torch.int64, but must be torch.float32, float64, bfloat16 or"):
        ops.percentile_per_tensor(torch.arange(3), 50)
