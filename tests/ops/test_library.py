"""The operators that exporters see keep torch's rules for operators."""

from __future__ import annotations

import pytest
import torch

from nashquant import ops

OPS = torch.ops.nashquant
X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
SCALES, ZEROS = torch.full((5,), 0.1), torch.zeros(5, dtype=torch.int32)


OPERATORS = [
    (OPS.fake_quantize_per_tensor.default, (0.1, 3, -128, 127), ops.fake_quantize_per_tensor),
    (OPS.fake_quantize_per_tensor.tensor, (SCALES[:1], 0, -8, 7), ops.fake_quantize_per_tensor),
    (OPS.fake_quantize_per_channel.default, (SCALES, ZEROS, 1, -8, 7), ops.fake_quantize_per_channel),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("operator", "grid", "_"), OPERATORS)
def test_opcheck_finds_nothing(operator, grid, _, dtype) -> None:
    for x in (X, X.transpose(0, 2), X[:0]) if dtype == torch.float32 else (X,):
        torch.library.opcheck(operator, (x.to(dtype).clone().requires_grad_(), *grid))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("operator", "grid", "function"), OPERATORS)
def test_gradients_are_those_of_the_functions(operator, grid, function, dtype) -> None:
    x, other = ((X * 20).to(dtype).requires_grad_() for _ in range(2))
    for value, of in ((x, operator), (other, function)):
        of(value, *grid).square().sum().backward()
    assert torch.equal(x.grad, other.grad)
    assert 0 < (x.grad == 0).sum() < x.numel()
    x.grad = None
    (first,) = torch.autograd.grad(operator(x, *grid).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.unique().tolist() == [0.0, 2.0]


def test_a_scale_can_not_be_learned_there() -> None:
    scale = SCALES[:1].clone().requires_grad_()
    y = OPS.fake_quantize_per_tensor.tensor(X, scale, 0, -8, 7)
    with pytest.raises(RuntimeError, match=r"learn it before torch\.export, or set requires_grad of the scale"):
        y.sum().backward()
