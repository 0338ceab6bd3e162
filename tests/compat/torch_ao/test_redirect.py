"""Inside the context torch's functions are ours; outside, and in other threads, they are torch's."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.ao.quantization as ao
from torch import Tensor
from torch.utils.checkpoint import CheckpointError, checkpoint

from nashquant.compat.torch_ao import functional, redirect_fake_quantize

INFINITE = torch.tensor([[torch.inf, 1.0]])  # here ours and torch's differ
SCALE, POINT = torch.tensor([0.5]), torch.tensor([0], dtype=torch.int32)


def per_channel() -> float:
    return torch.fake_quantize_per_channel_affine(INFINITE, SCALE, POINT, 0, -8, 7)[0, 0].item()


def test_calls_go_to_ours_inside_only() -> None:
    assert per_channel() == -4.0
    with redirect_fake_quantize():
        assert per_channel() == 3.5
    assert per_channel() == -4.0


def test_another_thread_is_not_touched() -> None:
    seen = []
    with redirect_fake_quantize():
        thread = threading.Thread(target=lambda: seen.append(per_channel()))
        thread.start()
        thread.join()
    assert seen == [-4.0]


STATE = (torch.ones(1), torch.ones(1), torch.tensor(torch.inf), torch.tensor(-torch.inf), SCALE, POINT)
ARGUMENTS = {
    "fake_quantize_per_tensor_affine": (SCALE, POINT, -8, 7),
    "fake_quantize_per_channel_affine": (SCALE, POINT, 0, -8, 7),
    "_fake_quantize_learnable_per_tensor_affine": (SCALE, SCALE, -8, 7),
    "_fake_quantize_learnable_per_channel_affine": (SCALE, SCALE, 0, -8, 7),
    "fused_moving_avg_obs_fake_quant": (*STATE, 0.01, -8, 7, -1),
}


@pytest.mark.parametrize("name", functional.__all__)
def test_every_function_is_redirected(name, monkeypatch) -> None:
    from nashquant.compat.torch_ao import redirect

    calls = []
    monkeypatch.setitem(redirect._OURS, getattr(torch, name), lambda *arguments: calls.append(arguments))
    with redirect_fake_quantize():
        getattr(torch, name)(INFINITE, *ARGUMENTS[name])
    assert calls == [(INFINITE, *ARGUMENTS[name])]


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")
def test_torch_aos_modules_and_gradients_go_through(assert_same_state) -> None:
    quantizers = [ao.default_fake_quant, ao.default_fused_act_fake_quant, ao.default_per_channel_weight_fake_quant]
    for make in quantizers:
        plain, redirected = make(), make()
        for _ in range(3):
            x = torch.randn(4, 5)
            inputs = [x.clone().requires_grad_() for _ in range(2)]
            plain(inputs[0]).square().sum().backward()
            with redirect_fake_quantize():
                y = redirected(inputs[1])
            y.square().sum().backward()
            assert torch.equal(inputs[1].grad, inputs[0].grad)
            assert_same_state(plain, redirected)


# Checkpointing


def rounded(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.5, 3, -8, 7).sin()


def rounded_by_ours(x: Tensor) -> Tensor:
    with redirect_fake_quantize():
        return rounded(x)


def contexts() -> tuple[redirect_fake_quantize, redirect_fake_quantize]:
    return redirect_fake_quantize(), redirect_fake_quantize()


def leaf() -> Tensor:
    return torch.tensor([0.24, -1.3, 9.0], requires_grad=True)


GRADIENT = torch.tensor([1.0, torch.tensor(-1.5).cos().item(), 0.0])  # cos of what x is rounded to; 9 is clipped


@pytest.mark.parametrize(
    ("function", "arguments"), [(rounded_by_ours, {}), (rounded, {"context_fn": contexts})], ids=["inside", "given"]
)
def test_a_context_within_a_checkpoint_holds_in_backward_too(function, arguments, monkeypatch) -> None:
    from nashquant.compat.torch_ao import redirect

    calls, x = [], leaf()
    ours = functional.fake_quantize_per_tensor_affine
    monkeypatch.setitem(
        redirect._OURS, torch.fake_quantize_per_tensor_affine, lambda *given: calls.append(given) or ours(*given)
    )
    checkpoint(function, x, use_reentrant=False, **arguments).sum().backward()
    assert torch.equal(x.grad, GRADIENT)
    assert len(calls) == 2  # the forward, and the forward once more


def test_a_context_around_a_checkpoint_does_not_hold_in_backward() -> None:
    with redirect_fake_quantize():
        loss = checkpoint(rounded, leaf(), use_reentrant=False).sum()
        with pytest.raises(CheckpointError):
            loss.backward()
