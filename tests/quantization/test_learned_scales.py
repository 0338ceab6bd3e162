"""LSQ and PACT: what is trained, from where, and what keeps it sane."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import qint4, qint8
from nashquant.quantization.fake_quantize import (
    FakeQuantize,
    PACTFakeQuantize,
    _LearnableFakeQuantize,
    set_fake_quantize,
)
from nashquant.quantization.observer import FixedScaleObserver, MSEObserver

PER_CHANNEL = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0, "channel_len": 3}
LEARNED = [_LearnableFakeQuantize, PACTFakeQuantize]


def learned_of(quantizer: FakeQuantize) -> nn.Parameter:
    (parameter,) = quantizer.parameters()
    return parameter


# Where it starts


@pytest.mark.parametrize("cls", LEARNED)
@pytest.mark.parametrize("observer", [{}, {"observer": MSEObserver}, PER_CHANNEL])
def test_the_first_grid_is_the_observers(cls: type[FakeQuantize], observer: dict) -> None:
    x = torch.randn(3, 50)
    plain, learned = FakeQuantize(**observer), cls(**observer)
    for quantizer in (plain, learned):
        set_fake_quantize(nn.Sequential(quantizer), "calibration")
        quantizer(x)
        set_fake_quantize(nn.Sequential(quantizer).train(), "qat")
    assert torch.equal(learned.scale, plain.scale)
    assert torch.equal(learned(x), plain(x))


@pytest.mark.parametrize("cls", LEARNED)
def test_without_calibration_the_first_batch_chooses_and_no_other(cls: type[FakeQuantize]) -> None:
    learned = cls()
    learned(torch.tensor([-127.5, 1.0]))
    assert learned.scale.item() == 1.0
    learned(torch.tensor([-1000.0, 1.0]))
    assert learned.scale.item() == 1.0
    fresh = cls().eval()
    with pytest.warns(UserWarning, match="its scale was never set"):
        fresh(torch.ones(1))


# How it learns


def test_the_gradient_of_a_learned_scale_is_that_of_the_paper() -> None:
    learned = _LearnableFakeQuantize(dtype=qint4)
    learned.set_qparams(0.5)
    x = torch.tensor([0.3, -0.9, 100.0, -100.0], requires_grad=True)
    grad_y = torch.tensor([1.0, 2.0, 3.0, 4.0])
    learned(x).backward(grad_y)
    v = x.detach() / 0.5
    inside = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert x.grad is not None
    assert torch.equal(x.grad, grad_y * inside)
    d = torch.tensor([v[0].round() - v[0], v[1].round() - v[1], 7.0, -8.0])
    assert learned_of(learned).grad.item() == pytest.approx((grad_y * d).sum().item())


@pytest.mark.parametrize(("arguments", "values"), [({}, 150), (PER_CHANNEL, 50)])
def test_grad_scaling_divides_by_the_root_of_the_values_for_each_scale(arguments: dict, values: int) -> None:
    x, grads = torch.randn(3, 50), []
    for scaling in (False, True):
        learned = _LearnableFakeQuantize(use_grad_scaling=scaling, **arguments)
        learned.set_qparams(0.1)
        learned(x).sum().backward()
        grads.append(learned_of(learned).grad)
    assert torch.allclose(grads[1], grads[0] / math.sqrt(values * 127), rtol=1e-5)


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL])
def test_the_gradient_of_alpha_is_that_of_the_paper(arguments: dict) -> None:
    learned = PACTFakeQuantize(alpha=1.0, **arguments)
    x = torch.tensor([[0.5, 1.01, 7.0], [-0.5, -3.0, 0.1], [math.inf, -9.0, 2.0]], requires_grad=True)
    grad_y = torch.arange(1.0, 10.0).reshape(3, 3)
    y = learned(x)
    y.backward(grad_y)
    inside = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert x.grad is not None
    assert torch.equal(x.grad, grad_y * inside)
    rows = torch.tensor([2.0 + 3.0, -5.0, 7.0 - 8.0 + 9.0])
    alpha = learned_of(learned)
    assert torch.equal(alpha.grad, rows if arguments else rows.sum().reshape(1))
    assert torch.equal(y, FakeQuantize(FixedScaleObserver, scale=1 / 127.5)(x.detach()))


def _toy(quantizer: FakeQuantize, steps: int, lr: float) -> tuple[float, float]:
    """The squared error of a quantized tensor before and after training what the quantizer learns."""
    torch.manual_seed(0)
    x = torch.randn(4096)
    quantizer.set_qparams(x.abs().max().item() / 7.5)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=lr)
    errors = []
    for _ in range(steps):
        loss = ((quantizer(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    return errors[0], min(errors)


def test_training_the_scale_beats_the_observed_one() -> None:
    before, after = _toy(_LearnableFakeQuantize(dtype=qint4, use_grad_scaling=False), 300, 0.1)
    assert after < 0.75 * before


def test_training_alpha_brings_a_wide_threshold_down_with_weight_decay() -> None:
    learned = PACTFakeQuantize(dtype=qint4, alpha=100.0)
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.5, weight_decay=0.05)
    x = torch.randn(512)
    first = ((learned(x) - x) ** 2).mean().item()
    for _ in range(300):
        optimizer.zero_grad()
        ((learned(x) - x) ** 2).mean().backward()
        optimizer.step()
    assert 1.0 < learned_of(learned).item() < 5.0
    assert ((learned(x) - x) ** 2).mean().item() < 0.1 * first


# What keeps it sane


@pytest.mark.parametrize("cls", LEARNED)
def test_an_optimizer_that_steps_across_zero_leaves_a_positive_scale_that_learns_on(cls: type[FakeQuantize]) -> None:
    learned = cls()
    learned.set_qparams(0.5)
    with torch.no_grad():
        learned_of(learned).fill_(-3.0)
    assert learned.state_dict()["scale"].item() > 0
    y = learned(torch.tensor([0.5, -0.5]))
    y.backward(torch.tensor([-1.0, 1.0]))
    assert y.isfinite().all()
    assert learned.scale.item() > 0
    assert learned_of(learned).grad.item() < 0  # it grows


@pytest.mark.parametrize("cls", LEARNED)
def test_it_stays_f32_and_takes_checkpoints_of_plain_quantizers(cls: type[FakeQuantize]) -> None:
    plain = FakeQuantize(**PER_CHANNEL)
    plain(torch.randn(3, 9))
    learned = cls(**PER_CHANNEL).half().double()
    assert learned_of(learned).dtype is torch.float32
    learned.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(3, 9)
    assert torch.equal(learned.eval()(x), plain.eval()(x))
    assigned = cls(**PER_CHANNEL)
    assigned.load_state_dict({name: value.double() for name, value in learned.state_dict().items()}, assign=True)
    assert learned_of(assigned).dtype is torch.float32


def test_a_shared_quantizer_learns_from_both_calls() -> None:
    learned = _LearnableFakeQuantize()
    learned.set_qparams(1.0)
    with torch.no_grad():
        learned_of(learned).fill_(-1.0)
    x = torch.tensor([3.0])
    (learned(x) + learned(learned(x))).sum().backward()
    assert learned_of(learned).grad is not None


@pytest.mark.parametrize("cls", LEARNED)
def test_what_cannot_be_learned_is_refused(cls: type[FakeQuantize]) -> None:
    with pytest.raises(ValueError, match=f"{cls.__name__} trains its scale, which a FixedScaleObserver forbids"):
        cls(observer=FixedScaleObserver, scale=1.0)
    with pytest.raises(ValueError, match=f"{cls.__name__} trains its scale, which pow_quantization would round"):
        cls(pow_quantization=True)
    with pytest.raises(ValueError, match="scale is -"):
        PACTFakeQuantize(alpha=-1.0)


def test_nan_is_the_lowest_value_and_teaches_alpha_nothing() -> None:
    learned = PACTFakeQuantize(alpha=1.0)
    x = torch.tensor([math.nan, 5.0], requires_grad=True)
    y: Tensor = learned(x)
    y.sum().backward()
    assert y[0].item() == pytest.approx(-128 / 127.5)
    assert learned_of(learned).grad.item() == 1.0


@pytest.mark.parametrize("cls", LEARNED)
def test_a_scale_that_training_broke_is_an_error_with_a_name(cls: type[FakeQuantize]) -> None:
    learned = cls()
    learned.set_qparams(0.5)
    learned.name = "layer1.conv"
    with torch.no_grad():
        learned_of(learned).fill_(math.nan)
    for mode in (True, False):
        with pytest.raises(ValueError, match=r"scale is NaN.*while quantizing 'layer1\.conv'"):
            learned.train(mode)(torch.ones(2))


@pytest.mark.parametrize("cls", LEARNED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_keep_theirs_and_the_scale_its_own(cls: type[FakeQuantize], dtype: torch.dtype) -> None:
    learned = cls()
    learned.set_qparams(0.25)
    x = torch.tensor([0.3, 90.0, -90.0], dtype=dtype, requires_grad=True)
    y = learned(x)
    (y * torch.tensor([1.0, 2.0, 3.0], dtype=dtype)).sum().backward()
    assert y.dtype is x.grad.dtype is dtype
    assert y.tolist() == [0.25, 31.75, -32.0]
    grad = learned_of(learned).grad
    assert grad.dtype is torch.float32
    assert grad.item() == (-1.0 if cls is PACTFakeQuantize else pytest.approx(127 * 2 - 128 * 3 - 0.2, abs=0.1))


@pytest.mark.parametrize("cls", LEARNED)
def test_it_lives_on_the_meta_device(cls: type[FakeQuantize]) -> None:
    learned = cls().eval()
    learned.set_qparams(0.5)
    assert learned.has_scale
    learned.to("meta")
    assert learned(torch.ones(3, device="meta")).is_meta
    assert learned.state_dict()["scale"].is_meta
    assert repr(learned)


def test_the_dtype_of_the_learned_grid_is_in_the_repr() -> None:
    learned = _LearnableFakeQuantize(dtype=qint8, use_grad_scaling=True)
    assert "use_grad_scaling=True" in repr(learned)
    assert "scale=1 (never set)" in repr(learned)
    assert "scale=0.01568628" in repr(PACTFakeQuantize(alpha=2.0))
