"""One call that moves a range, sets the scale and fake-quantizes: equal to doing it step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nashquant import ops
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.observer import MinMaxObserver, scale_from_range

QINT8 = (-128, 127)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
State = tuple[Tensor, Tensor, Tensor]


class StepByStep(MinMaxObserver):
    """The same observer; a subclass may choose another range, so that a quantizer asks it every time."""


def fresh() -> State:
    return torch.tensor(torch.inf), torch.tensor(-torch.inf), torch.ones(1)


def observed(x: Tensor, state: State, averaging_constant: float = 0.25) -> Tensor | None:
    return ops.fake_quantize_observed_per_tensor(x, *state, averaging_constant, *QINT8)


def test_the_first_batch_starts_the_range_and_the_next_moves_it():
    state = fresh()
    y = observed(torch.tensor([-127.5, 1.5]), state)
    assert y is not None
    assert y.tolist() == [-128, 2]
    assert [one.item() for one in state] == [-127.5, 1.5, 1.0]
    observed(torch.tensor([0.5, 5.5]), state)
    assert [one.item() for one in state] == [-127.5 + 0.25 * 128, 2.5, pytest.approx(95.5 / 127.5)]


PER_CHANNEL = {"qscheme": torch.per_channel_symmetric}
GRIDS: dict[str, dict[str, Any]] = {
    "per tensor": {},
    "per channel": {**PER_CHANNEL, "ch_axis": 0, "channel_len": 7},
    "last axis": {**PER_CHANNEL, "ch_axis": -1, "channel_len": 300},
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("averaging_constant", [0.01, 0.3, 1.0])
def test_training_equals_training_step_by_step(dtype: torch.dtype, averaging_constant: float, grid: str):
    fast = FakeQuantize(MinMaxObserver, averaging_constant=averaging_constant, **GRIDS[grid])
    slow = FakeQuantize(StepByStep, averaging_constant=averaging_constant, **GRIDS[grid])
    for step in range(20):
        x = (torch.randn(7, 300) * (1 + step % 3) + step % 2).to(dtype)
        grad_y = torch.randn(7, 300).to(dtype)
        x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
        y1, y2 = fast(x1), slow(x2)
        assert torch.equal(y1, y2)
        y1.backward(grad_y)
        y2.backward(grad_y)
        assert torch.equal(x1.grad, x2.grad)
        with torch.no_grad():
            assert torch.equal(fast(x), slow(x))
        for (key, one), other in zip(fast.state_dict().items(), slow.state_dict().values(), strict=True):
            assert torch.equal(one, other), key
        assert fast.has_scale


def test_the_scale_is_that_of_the_range():
    state = fresh()
    for _ in range(20):
        observed(torch.randn(1000), state, 0.01)
        assert torch.equal(state[2], scale_from_range(state[0], state[1], *QINT8).reshape(1))


@pytest.mark.parametrize(
    "x",
    [torch.tensor([1.0, math.nan]), torch.tensor([math.inf]), torch.empty(0), torch.empty(3, device="meta")],
    ids=["NaN", "infinity", "empty", "meta"],
)
def test_what_takes_several_steps_is_left_alone(x: Tensor):
    state = fresh()
    assert observed(x, state) is None
    assert observed(x.requires_grad_(), state) is None
    assert [one.item() for one in state] == [math.inf, -math.inf, 1.0]
    assert [one._version for one in state] == [0, 0, 0]


def test_nan_in_one_channel_leaves_all_alone():
    state = (torch.full((2,), torch.inf), torch.full((2,), -torch.inf), torch.ones(2))
    x = torch.tensor([[1.0, 2.0], [math.nan, 1.0]])
    for bad in (x, x.clone().requires_grad_(), torch.empty(2, 0)):
        assert ops.fake_quantize_observed_per_channel(bad, *state, 0, 0.01, *QINT8) is None
    assert [one._version for one in state] == [0, 0, 0]
    assert state[0].tolist() == [math.inf, math.inf]


def test_what_fits_no_channels_is_refused_and_nothing_changes():
    state = (torch.full((2,), torch.inf), torch.full((2,), -torch.inf), torch.ones(2))
    with pytest.raises(ValueError, match=r"^min_val has 2 elements, but 3 are needed$"):
        ops.fake_quantize_observed_per_channel(torch.ones(3, 2), *state, 0, 0.01, *QINT8)
    with pytest.raises(IndexError, match=r"^axis is 2, but x has 2 dimensions$"):
        ops.fake_quantize_observed_per_channel(torch.ones(3, 2), *state, 2, 0.01, *QINT8)
    assert state[2].tolist() == [1, 1]
    quantizer = FakeQuantize(MinMaxObserver, **PER_CHANNEL, ch_axis=0, channel_len=2)
    with pytest.raises(ValueError, match="x has 3 channels on axis 0 but channel_len is 2"):
        quantizer(torch.ones(3, 2))


@pytest.mark.parametrize("grad", [False, True])
def test_a_weight_in_training_takes_one_kernel(monkeypatch: pytest.MonkeyPatch, grad: bool):
    quantizer = FakeQuantize(MinMaxObserver, **PER_CHANNEL, ch_axis=0, channel_len=2)
    monkeypatch.setattr(MinMaxObserver, "observe", None)
    assert quantizer(torch.randn(2, 3, requires_grad=grad)).requires_grad == grad


def test_buffers_elsewhere_are_left_alone():
    state = (torch.empty((), device="meta"), torch.empty((), device="meta"), torch.ones(1))
    assert observed(torch.ones(3), state) is None


def test_a_buffer_of_the_negative_bit_is_left_to_torch():
    state = (fresh()[0], torch._neg_view(torch.tensor(torch.inf)), torch.ones(1))
    assert observed(torch.ones(3), state) is None
    assert state[1] == -torch.inf


def test_autograd_is_told_that_the_buffers_changed():
    state = fresh()
    saved = state[2] * torch.ones(1, requires_grad=True)
    observed(torch.ones(3), state)
    assert [one._version for one in state] == [1, 1, 1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


def test_strides_are_kept_and_gaps_closed():
    base = torch.randn(6, 4, 5, 8)
    for x in (base.permute(2, 0, 3, 1), base[:, 1:3, ::2], torch._neg_view(base)):
        x1, x2 = x.detach().requires_grad_(), x.detach().requires_grad_()
        one, other = FakeQuantize(MinMaxObserver)(x1), FakeQuantize(StepByStep)(x2)
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        grads = [torch.autograd.grad(y, x, torch.ones(x.shape))[0] for y, x in ((one, x1), (other, x2))]
        assert torch.equal(*grads)


def test_wrong_buffers_are_refused_and_nothing_changes():
    low, high, _ = state = fresh()
    with pytest.raises(ValueError, match=r"^scale has 2 elements, but 1 is needed$"):
        observed(torch.ones(3), (low, high, torch.ones(2)))
    with pytest.raises(TypeError, match=r"^scale has dtype torch.float64, but must be torch.float32$"):
        observed(torch.ones(3), (low, high, torch.ones(1).double()))
    with pytest.raises(ValueError, match=r"^min_val and max_val overlap in memory$"):
        observed(torch.ones(3), (low, low, torch.ones(1)))
    with pytest.raises(TypeError, match=r"^x has dtype torch.int32, but must be"):
        observed(torch.ones(3, dtype=torch.int32), state)
    with pytest.raises(ValueError, match=r"^qmin is 7 and qmax 7"):
        ops.fake_quantize_observed_per_tensor(torch.ones(3), *state, 0.01, 7, 7)
    assert [one.item() for one in state] == [math.inf, -math.inf, 1.0]


def test_a_subclass_of_the_observer_is_always_asked():
    class Wider(MinMaxObserver):
        def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            return low * 2, high * 2

    quantizer = FakeQuantize(Wider)
    quantizer(torch.tensor([-1.0, 1.0]))
    assert quantizer.scale.item() == pytest.approx(2 / 127.5)


def test_large_tensors_equal_small_ones():
    # 48 MiB: huge pages are asked for, and many blocks shared.
    x = torch.randn(12 << 20)
    y = ops.fake_quantize_per_tensor(x, 0.02, 0, *QINT8)
    for piece, expected in zip(x.split(5_000_011), y.split(5_000_011), strict=True):
        assert torch.equal(ops.fake_quantize_per_tensor(piece, 0.02, 0, *QINT8), expected)
