"""Learned scales: against torch's own operators, against the reference, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nashquant import ops
from nashquant.ops import _rust, _torch

INT4, INT8 = (-8, 7), (-128, 127)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
Gradients = tuple[Tensor, ...]


def parameters(channels: int, zero_points: bool = False) -> tuple[Tensor, Tensor]:
    scale = (torch.rand(channels) * 0.02 + 0.005).requires_grad_()
    points = torch.randint(0, 9, (channels,)).float() if zero_points else torch.zeros(channels)
    return scale, points.requires_grad_()


def close(ours: Tensor, theirs: Tensor, terms: float) -> bool:
    """Sums of f32 terms in another order: off by at most 32 roundings of their magnitudes."""
    return bool(((ours - theirs).abs() <= 32 * 2.0**-24 * terms + 1e-6).all())


def test_clipped_values_count_their_end_and_others_their_rounding():
    x = torch.tensor([0.625, 100.0, -100.0], requires_grad=True)
    scale, zero_point = torch.tensor([0.5], requires_grad=True), torch.zeros(1, requires_grad=True)
    y = ops.fake_quantize_learnable_per_tensor(x, scale, zero_point, *INT4, grad_factor=0.5)
    assert y.tolist() == [0.5, 3.5, -4.0]
    y.backward(torch.tensor([4.0, 1.0, 1.0]))
    assert x.grad.tolist() == [4, 0, 0]
    assert scale.grad.tolist() == [0.5 * (-1 + 7 - 8)]
    assert zero_point.grad.tolist() == [0.5 * -0.5 * 2]


def test_a_negative_zero_point_is_the_same_on_both_ways():
    x, scale = torch.tensor([-100.0, 0.0, 100.0]), torch.ones(1, requires_grad=True)
    y = ops.fake_quantize_learnable_per_tensor(x, scale, torch.tensor([-5.0]), *INT4)
    assert y.tolist() == [-3, 0, 12]
    y.sum().backward()
    assert scale.grad.tolist() == [9]
    theirs = torch._fake_quantize_learnable_per_tensor_affine(x, scale, torch.tensor([-5.0]), *INT4, 1.0)
    assert theirs.tolist() == [-3, 0, 12]
    assert torch.autograd.grad(theirs.sum(), scale)[0].tolist() == [7]  # torch makes -4 of it, on the way back


def test_zero_points_are_rounded_half_to_even_and_clamped():
    x = torch.tensor([-100.0, 100.0])
    for point, integer in ((0.5, 0), (1.5, 2), (-99.0, -8)):
        y = ops.fake_quantize_learnable_per_tensor(x, torch.ones(1), torch.tensor([point]), *INT4)
        assert y.tolist() == [-8 - integer, 7 - integer]


@pytest.mark.parametrize("n", [1, 1000, 70_001])
@pytest.mark.parametrize("zero_points", [False, True])
def test_per_tensor_equals_torch(n: int, zero_points: bool):
    x, grad_y = torch.randn(n, requires_grad=True), torch.randn(n)
    scale, zero_point = parameters(1, zero_points)
    arguments = (x, scale, zero_point, *INT8, 0.3)
    ours, theirs = (
        (y, torch.autograd.grad(y, (x, scale, zero_point), grad_y))
        for y in (
            ops.fake_quantize_learnable_per_tensor(*arguments),
            torch._fake_quantize_learnable_per_tensor_affine(*arguments),
        )
    )
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1][0], theirs[1][0])
    assert close(ours[1][1], theirs[1][1], 0.3 * 128 * grad_y.abs().sum().item())
    assert close(ours[1][2], theirs[1][2], 0.3 * grad_y.abs().sum().item())


@pytest.mark.parametrize("axis", [0, 1, 3])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_per_channel_equals_torch(axis: int, order: torch.memory_format):
    x = torch.randn(6, 5, 9, 7).to(memory_format=order).requires_grad_()
    grad_y = torch.randn(x.shape)
    scale, zero_point = parameters(x.shape[axis])
    arguments = (x, scale, zero_point, axis, *INT8, 0.3)
    ours, theirs = (
        (y, torch.autograd.grad(y, (x, scale, zero_point), grad_y))
        for y in (
            ops.fake_quantize_learnable_per_channel(*arguments),
            torch._fake_quantize_learnable_per_channel_affine(*arguments),
        )
    )
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].stride() == x.stride()
    assert torch.equal(ours[1][0], theirs[1][0])
    assert close(ours[1][1], theirs[1][1], 0.3 * 128 * grad_y.abs().sum().item())
    assert close(ours[1][2], theirs[1][2], 0.3 * grad_y.abs().sum().item())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_kernel_equals_the_reference(dtype: torch.dtype, axis: int | None, threads: int):
    x = torch.randn(40, 30, 70).transpose(0, 1).to(dtype)
    x[0, 0, :4] = torch.tensor([math.nan, math.inf, -math.inf, 100.0], dtype=dtype)
    grad_y = torch.randn(x.shape).to(dtype)
    scale, points = parameters(1 if axis is None else x.shape[axis], zero_points=True)
    arguments = (grad_y, x, scale.detach(), points.detach().int(), axis, *INT8, 0.7)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    ours = _rust.fake_quantize_learnable_backward(*arguments)
    torch.set_num_threads(before)
    theirs = _torch.fake_quantize_learnable_backward(*arguments)
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].dtype == dtype
    terms = 0.7 * 136 * grad_y.double().abs().sum().item()
    assert close(ours[1], theirs[1], terms)
    assert close(ours[2], theirs[2], terms)


def test_the_scale_is_learned():
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    scale = torch.tensor([1.5], requires_grad=True)

    def loss() -> Tensor:
        factor = 1 / math.sqrt(x.numel() * 7)
        y = ops.fake_quantize_learnable_per_tensor(x, scale, torch.zeros(1), *INT4, grad_factor=factor)
        return (y - x).square().mean()

    first = loss().item()
    optimizer = torch.optim.SGD([scale], lr=30.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < first / 10
    assert 0.2 < scale.item() < 0.5  # 4 bits, normal data: 0.335 is best


def test_compiled_and_transformed_it_is_the_reference():
    x, (scale, zero_point) = torch.randn(20, 8, requires_grad=True), parameters(8)

    def f(x: Tensor, scale: Tensor) -> Tensor:
        return ops.fake_quantize_learnable_per_channel(x, scale, zero_point, 1, *INT8, 0.5)

    eager = torch.autograd.grad(f(x, scale).square().sum(), (x, scale))
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for other in (
        torch.autograd.grad(compiled(x, scale).square().sum(), (x, scale)),
        torch.func.grad(lambda x, scale: f(x, scale).square().sum(), argnums=(0, 1))(x, scale),
    ):
        assert torch.equal(eager[0], other[0])
        assert torch.allclose(eager[1], other[1], rtol=1e-4, atol=1e-4)


def test_a_gradient_with_other_strides_or_a_negative_bit_is_read_right():
    x, grad_y, (scale, zero_point) = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5), parameters(1)

    def gradients(grad_y: Tensor) -> Gradients:
        y = ops.fake_quantize_learnable_per_tensor(x, scale, zero_point, *INT4)
        return torch.autograd.grad(y, (x, scale, zero_point), grad_y)

    expected = gradients(grad_y)
    for other in (torch._neg_view(-grad_y), grad_y.T.contiguous().T):
        assert all(torch.equal(*pair) for pair in zip(gradients(other), expected, strict=True))


def test_a_gradient_of_its_gradient_is_refused():
    x, (scale, zero_point) = torch.randn(9, requires_grad=True), parameters(1)
    y = ops.fake_quantize_learnable_per_tensor(x, scale, zero_point, *INT4)
    grad_x, grad_scale = torch.autograd.grad(y.square().sum(), (x, scale), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        (grad_x.sum() + grad_scale.sum()).backward()


def test_an_empty_tensor_has_zero_gradients():
    x, (scale, zero_point) = torch.empty(0, 3, requires_grad=True), parameters(1)
    ops.fake_quantize_learnable_per_tensor(x, scale, zero_point, *INT8).sum().backward()
    assert (x.grad.shape, scale.grad.tolist(), zero_point.grad.tolist()) == ((0, 3), [0], [0])


def test_a_zero_point_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"^zero_point is nan, but must be a number$"):
        ops.fake_quantize_learnable_per_tensor(torch.ones(3), torch.ones(1), torch.tensor([math.nan]), *INT8)


@pytest.mark.usefixtures("path")
def test_what_is_wrong_is_said():
    x, one, zero = torch.ones(2, 3), torch.ones(1), torch.zeros(1)
    with pytest.raises(ValueError, match=r"^scale has 2 values, but per tensor there is one$"):
        ops.fake_quantize_learnable_per_tensor(x, torch.ones(2), zero, *INT8)
    with pytest.raises(TypeError, match=r"^zero_point has dtype torch.int32, but must be torch.float32$"):
        ops.fake_quantize_learnable_per_tensor(x, one, zero.int(), *INT8)
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^scale is .*, but must be positive and finite"):
            ops.fake_quantize_learnable_per_tensor(x, one * bad, zero, *INT8)
    with pytest.raises(ValueError, match=r"^scale has 2 elements, but 3 are needed$"):
        ops.fake_quantize_learnable_per_channel(x, torch.ones(2), torch.zeros(3), 1, *INT8)
    with pytest.raises(IndexError, match=r"^axis is 2, but x has 2 dimensions$"):
        ops.fake_quantize_learnable_per_channel(x, torch.ones(3), torch.zeros(3), 2, *INT8)
