from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nashquant import ops
from nashquant.ops import _torch

INT4, INT8, INT16 = (-8, 7), (-128, 127), (-32768, 32767)


def error(x: torch.Tensor, threshold: torch.Tensor, qmin: int, qmax: int) -> float:
    """Of one candidate, by torch's own fake quantize."""
    scale = max((threshold / ((qmax - qmin) / 2)).item(), 2.0**-23)
    y = torch.fake_quantize_per_tensor_affine(x, scale, 0, qmin, qmax)
    return (y - x).square().sum(dtype=torch.float64).item()


def test_an_outlier_is_clipped_to_keep_the_rest_exact():
    # With a step of 10 / 7.5 everyone at 0.3 goes to 0; that costs far more than clipping the one at 10.
    x = torch.cat([torch.full((100_000,), 0.3), torch.tensor([10.0])])
    assert ops.mse_search_per_tensor(x, *INT4) < 10


def test_ties_take_the_larger_candidate():
    assert ops.mse_search_per_tensor(torch.zeros(5), *INT8) == 0
    # Every scale is floored at 2**-23, so all candidates are one.
    assert ops.mse_search_per_tensor(torch.tensor([1e-9, -3e-9]), *INT8) == torch.tensor(3e-9)


def test_nan_and_infinity_are_answered_with_themselves():
    assert ops.mse_search_per_tensor(torch.tensor([1.0, math.nan]), *INT8).isnan()
    assert ops.mse_search_per_tensor(torch.tensor([1.0, -math.inf]), *INT8) == math.inf
    per_channel = ops.mse_search_per_channel(torch.tensor([[1.0, math.nan], [2.0, 2.0]]), 0, *INT8)
    assert per_channel.isnan().tolist() == [True, False]


@pytest.mark.parametrize("qrange", [INT4, INT8, INT16])
@pytest.mark.parametrize("stride", [1, 3, 100, 1000])
@pytest.mark.parametrize("n", [1, 700, 40_000])
def test_the_winner_is_the_best_of_all_candidates(qrange, stride, n):
    x = torch.randn(n).pow(3)
    max_abs = x.abs().max()
    candidates = [max_abs * i / 100 for i in sorted({*range(1, 101, stride), 100})]
    errors = [error(x, threshold, *qrange) for threshold in candidates]
    winner = ops.mse_search_per_tensor(x, *qrange, stride)
    assert winner in candidates
    assert error(x, winner, *qrange) <= min(errors) * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_per_channel_equals_the_reference(dtype, axis, order):
    x = torch.randn(6, 8, 9, 7).pow(3).to(dtype).to(memory_format=order)
    ours = ops.mse_search_per_channel(x, axis, *INT8, 2)
    assert torch.equal(ours, _torch.mse_search_per_channel(x, axis, *INT8, 2))
    alone = [ops.mse_search_per_tensor(row, *INT8, 2) for row in x.movedim(axis, 0)]
    assert torch.equal(ours, torch.stack(alone))


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60), stride=st.integers(1, 30))
def test_equals_the_reference_on_anything(values, stride):
    x = torch.tensor(values)
    ours, theirs = ops.mse_search_per_tensor(x, *INT8, stride), _torch.mse_search_per_tensor(x, *INT8, stride)
    # Sums in another order may break a tie of exact arithmetic the other way.
    assert ours == theirs or error(x, ours, *INT8) == pytest.approx(error(x, theirs, *INT8), rel=1e-13, abs=0)


def test_the_number_of_threads_changes_nothing():
    x = torch.randn(12, 20_000).pow(3)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append((ops.mse_search_per_tensor(x, *INT8), ops.mse_search_per_channel(x, 0, *INT8)))
    torch.set_num_threads(before)
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("path", ["kernel", "reference"])
def test_what_is_wrong_is_said(path, monkeypatch):
    if path == "reference":
        monkeypatch.setattr(ops._rust, "takes", lambda x: False)
    with pytest.raises(ValueError, match=r"^x has no elements, so no minimum, maximum or scale$"):
        ops.mse_search_per_tensor(torch.empty(0), *INT8)
    with pytest.raises(ValueError, match=r"^stride is 0, but must be at least 1$"):
        ops.mse_search_per_tensor(torch.ones(1), *INT8, 0)
    with pytest.raises(ValueError, match=r"^stride is -1, but must be at least 1$"):
        ops.mse_search_per_channel(torch.ones(1), 0, *INT8, -1)
    with pytest.raises(ValueError, match=r"^qmin 0 and qmax 4194304 span more than 2\*\*22 steps"):
        ops.mse_search_per_tensor(torch.ones(3), 0, 2**22)
    with pytest.raises(
        ValueError, match=r"^qmin is 4000000 and qmax 4194305, but both must lie between -2\*\*22 and 2"
    ):
        ops.mse_search_per_tensor(torch.ones(3), 4_000_000, 2**22 + 1)
    with pytest.raises(ValueError, match=r"^qmin is 7 and qmax -8, but qmin must be less$"):
        ops.mse_search_per_channel(torch.ones(2), 0, 7, -8)
    with pytest.raises(TypeError, match=r"^x has dtype torch.int64, but must be"):
        ops.mse_search_per_tensor(torch.arange(3), *INT8)
    with pytest.raises(IndexError, match=r"^axis is 1, but x has 1 dimensions$"):
        ops.mse_search_per_channel(torch.ones(2), 1, *INT8)
