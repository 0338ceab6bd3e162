"""The kernels beside torch's own, at the sizes of small and large activations. `make bench`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nashquant import ops

QMIN, QMAX = -128, 127
SIZES = {"64K": (16, 16, 16, 16), "1M": (16, 64, 32, 32)}


@pytest.fixture(params=SIZES)
def x(request: pytest.FixtureRequest) -> Tensor:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return torch.randn(SIZES[request.param])


def mse_by_a_loop(x: Tensor) -> Tensor:
    best, winner = float("inf"), x.new_zeros(())
    for i in range(1, 101):
        threshold = x.abs().max() * i / 100
        y = torch.fake_quantize_per_tensor_affine(x, float(threshold / 127.5), 0, QMIN, QMAX)
        error = float((y - x).square().sum(dtype=torch.float64))
        if error <= best:
            best, winner = error, threshold
    return winner


@pytest.mark.parametrize("who", ["nashquant", "torch"])
@pytest.mark.benchmark(group="fake_quantize_per_tensor")
def test_fake_quantize_per_tensor(benchmark: Any, x: Tensor, who: str) -> None:
    rivals = {
        "nashquant": lambda: ops.fake_quantize_per_tensor(x, 0.02, 0, QMIN, QMAX),
        "torch": lambda: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, QMIN, QMAX),
    }
    benchmark(rivals[who])
    torch.testing.assert_close(rivals["nashquant"](), rivals["torch"](), rtol=0, atol=0)


@pytest.mark.parametrize("who", ["nashquant", "torch"])
@pytest.mark.benchmark(group="fake_quantize_per_tensor, forward and backward")
def test_fake_quantize_per_tensor_backward(benchmark: Any, x: Tensor, who: str) -> None:
    x.requires_grad_()
    grad_y = torch.randn_like(x)
    rivals = {
        "nashquant": lambda: torch.autograd.grad(ops.fake_quantize_per_tensor(x, 0.02, 0, QMIN, QMAX), x, grad_y),
        "torch": lambda: torch.autograd.grad(torch.fake_quantize_per_tensor_affine(x, 0.02, 0, QMIN, QMAX), x, grad_y),
    }
    benchmark(rivals[who])
    torch.testing.assert_close(rivals["nashquant"](), rivals["torch"](), rtol=0, atol=0)


@pytest.mark.parametrize("who", ["nashquant", "torch"])
@pytest.mark.benchmark(group="fake_quantize_per_channel")
def test_fake_quantize_per_channel(benchmark: Any, x: Tensor, who: str) -> None:
    channels = x.shape[1]
    scale, zero_point = torch.linspace(0.01, 0.03, channels), torch.zeros(channels, dtype=torch.int32)
    rivals = {
        "nashquant": lambda: ops.fake_quantize_per_channel(x, scale, zero_point, 1, QMIN, QMAX),
        "torch": lambda: torch.fake_quantize_per_channel_affine(x, scale, zero_point, 1, QMIN, QMAX),
    }
    benchmark(rivals[who])
    torch.testing.assert_close(rivals["nashquant"](), rivals["torch"](), rtol=0, atol=0)


@pytest.mark.parametrize("who", ["nashquant", "torch"])
@pytest.mark.benchmark(group="min_max_per_tensor")
def test_min_max_per_tensor(benchmark: Any, x: Tensor, who: str) -> None:
    rivals = {"nashquant": lambda: ops.min_max_per_tensor(x), "torch": lambda: torch.aminmax(x)}
    benchmark(rivals[who])
    assert torch.equal(torch.stack(list(rivals["nashquant"]())), torch.stack(list(rivals["torch"]())))


@pytest.mark.parametrize("who", ["nashquant", "a loop over torch"])
@pytest.mark.benchmark(group="mse_search_per_tensor")
def test_mse_search_per_tensor(benchmark: Any, x: Tensor, who: str) -> None:
    rivals = {
        "nashquant": lambda: ops.mse_search_per_tensor(x, QMIN, QMAX),
        "a loop over torch": lambda: mse_by_a_loop(x),
    }
    benchmark.pedantic(rivals[who], rounds=3, warmup_rounds=0 if benchmark.disabled else 1)
    torch.testing.assert_close(rivals["nashquant"](), rivals["a loop over torch"](), rtol=0, atol=0)
