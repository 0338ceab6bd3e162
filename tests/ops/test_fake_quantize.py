from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from nashquant import ops
from nashquant.ops import _autograd, _torch

INT4, INT8, INT16 = (-8, 7), (-128, 127), (-32768, 32767)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True, params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal, -0.0 apart from 0.0, in one memory order (the stride of an axis with one index means nothing)."""
    strides = [[step for step, size in zip(t.stride(), t.shape, strict=True) if size > 1] for t in (a, b)]
    signs = torch.equal(torch.signbit(a), torch.signbit(b))
    return a.dtype == b.dtype and strides[0] == strides[1] and torch.equal(a, b) and signs


def reference(x: Tensor, scale: float, zero_point: int, qmin: int, qmax: int) -> tuple[Tensor, Tensor]:
    return _torch.fake_quantize_per_tensor(x, torch.tensor(scale), zero_point, qmin, qmax)


def gradient(y: Tensor, x: Tensor, grad_y: Tensor) -> Tensor:
    return torch.autograd.grad(y, x, grad_y)[0]


# Literals first.


def test_ties_go_to_even():
    y = ops.fake_quantize_per_tensor(torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5]), 1.0, 0, *INT4)
    assert y.tolist() == [0, 2, 2, 0, -2, -2]


def test_ends_saturate_and_nan_goes_to_qmin():
    x = torch.tensor([100.0, -100.0, INF, -INF, 1e30, -1e30, NAN, 3e38])
    assert ops.fake_quantize_per_tensor(x, 1.0, 0, *INT4).tolist() == [7, -8, 7, -8, 7, -8, -8, 7]
    scale, zero_point = torch.ones(8), torch.zeros(8, dtype=torch.int32)
    y = ops.fake_quantize_per_channel(x, scale, zero_point, 0, *INT4)
    assert y.tolist() == [7, -8, 7, -8, 7, -8, -8, 7]


def test_no_zero_is_negative():
    y = ops.fake_quantize_per_tensor(torch.tensor([-0.0, -0.3, -1e-45, 0.0]), 1.0, 0, *INT4)
    assert y.tolist() == [0, 0, 0, 0]
    assert not torch.signbit(y).any()


def test_rounding_comes_before_the_zero_point():
    # round(0.5) + 3 is 3, but round(0.5 + 3) would be 4.
    assert ops.fake_quantize_per_tensor(torch.tensor([0.5, 1.5]), 1.0, 3, *INT8).tolist() == [0, 2]


def test_gradient_passes_only_where_nothing_was_clamped():
    x = torch.tensor([0.0, 7.4, 7.5, 7.6, -8.5, -8.6, NAN, INF, -INF], requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 1.0, 0, *INT4)
    assert gradient(y, x, torch.full((9,), 2.0)).tolist() == [2, 2, 0, 0, 2, 0, 0, 0, 0]


def test_a_gradient_is_handed_on_as_it_is_where_nothing_was_clamped():
    for n in (1, 512, 1000, 2**18):
        x, grad_y = torch.ones(n).requires_grad_(), torch.randn(n)
        (grad_x,) = torch.autograd.grad(ops.fake_quantize_per_tensor(x, 1.0, 0, -8, 7), x, grad_y)
        assert grad_x.data_ptr() == grad_y.data_ptr(), f"{n} elements were copied"
        x = torch.cat((torch.ones(n - 1), torch.tensor([8.0]))).requires_grad_()
        kept = grad_y.clone()
        (grad_x,) = torch.autograd.grad(ops.fake_quantize_per_tensor(x, 1.0, 0, -8, 7), x, grad_y)
        assert grad_x[-1] == 0
        assert torch.equal(grad_x[:-1], kept[:-1])
        assert torch.equal(grad_y, kept), "a gradient that others hold was written to"


def test_gradient_is_multiplied_so_that_nan_shows():
    x = torch.tensor([100.0, 100.0, 100.0, 1.0], requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 1.0, 0, *INT4)
    grad_x = gradient(y, x, torch.tensor([NAN, INF, -1.0, INF]))
    assert grad_x[:2].isnan().all()
    assert grad_x[2:].tolist() == [0, INF]
    assert torch.signbit(grad_x[2])


def test_published_scale_gives_published_step():
    # max_abs 0.9999191 of an int8 tensor: the vendor printed scale 0.0078425
    assert f"{0.9999191 / 127.5:.7f}" == "0.0078425"
    y = ops.fake_quantize_per_tensor(torch.tensor([0.9999191]), 0.0078425, 0, *INT8)
    assert y.item() == pytest.approx(127 * 0.0078425)


def test_an_empty_tensor_gives_an_empty_tensor():
    x = torch.empty(0, 3, requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 1.0, 0, *INT8)
    assert y.shape == (0, 3)
    assert gradient(y, x, y.detach()).shape == (0, 3)
    assert ops.fake_quantize_per_channel(x, torch.ones(3), torch.zeros(3, dtype=torch.int32), 1, *INT8).shape == (0, 3)


def test_a_scalar_keeps_its_shape():
    x = torch.tensor(1.3, requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 0.5, 0, *INT8)
    assert (y.shape, y.item()) == ((), 1.5)
    assert gradient(y, x, torch.tensor(3.0)).item() == 3


# Against torch's own kernels, bit for bit. torch says -0.0 nowhere either.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("qrange", [INT4, INT8, INT16, (0, 255)])
@pytest.mark.parametrize("n", [1, 63, 1000, 70_001])
def test_equals_torch_forward_and_backward(dtype, qrange, n):
    zero_point = 5 if qrange[0] == 0 else 0
    scale = 0.0371
    x = (torch.randn(n, dtype=torch.float64) * scale * qrange[1] * 0.7).to(dtype).requires_grad_()
    grad_y = torch.randn(n).to(dtype)
    ours = ops.fake_quantize_per_tensor(x, scale, zero_point, *qrange)
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *qrange)
    assert same_bits(ours, theirs)
    assert same_bits(gradient(ours, x, grad_y), gradient(theirs, x, grad_y))
    with torch.no_grad():
        assert same_bits(ops.fake_quantize_per_tensor(x, scale, zero_point, *qrange), theirs.detach())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (16, 24, 9, 11), (1, 40, 33, 1), (40, 1, 3, 3)])
def test_per_channel_equals_torch_forward_and_backward(dtype, axis, order, shape):
    x = torch.randn(shape).to(dtype).to(memory_format=order).requires_grad_()
    channels = shape[axis]
    scale, zero_point = torch.rand(channels) * 0.02 + 0.003, torch.randint(-9, 9, (channels,), dtype=torch.int32)
    grad_y = torch.randn(shape).to(dtype).to(memory_format=order)
    ours = ops.fake_quantize_per_channel(x, scale, zero_point, axis, *INT8)
    theirs = torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis % 4, *INT8)
    assert same_bits(ours, theirs)
    assert same_bits(gradient(ours, x, grad_y), gradient(theirs, x, grad_y))
    with torch.no_grad():
        assert same_bits(ops.fake_quantize_per_channel(x, scale, zero_point, axis, *INT8), theirs.detach())


def awkward_layouts() -> dict[str, Tensor]:
    base = torch.randn(6, 4, 5, 8)
    return {
        "transposed": base.transpose(0, 3),
        "permuted": base.permute(2, 0, 3, 1),
        "sliced": base[:, 1:3, ::2, 1:],
        "expanded": base[:, :1].expand(6, 4, 5, 8),
        "channels_last": base.contiguous(memory_format=torch.channels_last),
        "offset": base.flatten()[3:].clone()[1:],
        "negative bit": torch._neg_view(base),
        "imaginary part": torch.randn(6, 4, 5, 8, dtype=torch.complex64).conj().imag,
    }


@pytest.mark.parametrize("name", awkward_layouts())
def test_strides_of_the_input_are_kept(name):
    x = awkward_layouts()[name].requires_grad_()
    ours = ops.fake_quantize_per_tensor(x, 0.02, 0, *INT8)
    theirs = torch.fake_quantize_per_tensor_affine(x, 0.02, 0, *INT8)
    assert same_bits(ours, theirs)
    grad_y = torch.randn(x.shape)
    assert torch.equal(gradient(ours, x, grad_y), gradient(theirs, x, grad_y))
    if x.dim() == 4:
        scale, zero_point = torch.linspace(0.01, 0.03, x.shape[1]), torch.zeros(x.shape[1], dtype=torch.int32)
        ours = ops.fake_quantize_per_channel(x, scale, zero_point, 1, *INT8)
        theirs = torch.fake_quantize_per_channel_affine(x, scale, zero_point, 1, *INT8)
        assert same_bits(ours, theirs)
        assert torch.equal(gradient(ours, x, grad_y), gradient(theirs, x, grad_y))


def test_a_gradient_with_other_strides_is_conformed():
    x = torch.randn(3, 8, 5, 4, requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8)
    expected = gradient(y, x, grad_y := torch.randn(3, 8, 5, 4))
    y = ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8)
    assert same_bits(gradient(y, x, grad_y.to(memory_format=torch.channels_last)), expected)
    y = ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8)
    assert torch.equal(gradient(y.sum(), x, torch.tensor(1.0)), (expected / grad_y).nan_to_num())


# Against the reference.


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_reference_where_torch_differs(dtype):
    x = torch.tensor([NAN, INF, -INF, 1e30, -1e30, -0.0, 1e-45, 0.5, 127.5, 128.5], dtype=torch.float64).to(dtype)
    x = x.repeat(7).requires_grad_()
    for zero_point in (0, 3, -128, 127):
        y = ops.fake_quantize_per_tensor(x, 1.0, zero_point, *INT8)
        expected, inside = reference(x.detach(), 1.0, zero_point, *INT8)
        assert same_bits(y, expected)
        assert torch.equal(gradient(y, x, torch.ones_like(x)).bool(), inside)
        scale, points = torch.ones(70), torch.full((70,), zero_point, dtype=torch.int32)
        y = ops.fake_quantize_per_channel(x, scale, points, 0, *INT8)
        expected, inside = _torch.fake_quantize_per_channel(x.detach(), scale, points, 0, *INT8)
        assert same_bits(y, expected)
        assert torch.equal(gradient(y, x, torch.ones_like(x)).bool(), inside)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(width=32), max_size=80),
    scale=st.floats(2.0**-20, 1e6, width=32),
    zero_point=st.integers(-128, 127),
    dtype=st.sampled_from(DTYPES),
)
def test_equals_the_reference_on_anything(values, scale, zero_point, dtype):
    x = torch.tensor(values, dtype=dtype).requires_grad_()
    y = ops.fake_quantize_per_tensor(x, scale, zero_point, *INT8)
    expected, inside = reference(x.detach(), scale, zero_point, *INT8)
    assert same_bits(y, expected)
    assert torch.equal(gradient(y, x, torch.ones_like(x)).bool(), inside)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(-1e4, 1e4, width=32), max_size=40), exponent=st.integers(-8, 3))
def test_quantizing_twice_is_quantizing_once(values, exponent):
    once = ops.fake_quantize_per_tensor(torch.tensor(values), 2.0**exponent, 0, *INT8)
    assert same_bits(ops.fake_quantize_per_tensor(once, 2.0**exponent, 0, *INT8), once)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(width=32, allow_nan=False), max_size=40), scale=st.floats(2.0**-20, 1e3, width=32))
def test_a_larger_value_never_gets_a_smaller_one(values, scale):
    y = ops.fake_quantize_per_tensor(torch.tensor(values).sort().values, scale, 0, *INT8)
    assert (y.diff() >= 0).all()


# How autograd, compilers and transforms see it.


def test_the_mask_is_one_bit_for_each_element():
    x = torch.randn(1001, requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8)
    assert y.grad_fn.mask.nbytes == 128  # of whole 512 elements
    assert y.grad_fn.saved_tensors == ()


def test_without_gradient_nothing_is_saved():
    x = torch.randn(10, requires_grad=True)
    with torch.no_grad():
        assert ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8).grad_fn is None
    assert ops.fake_quantize_per_tensor(x.detach(), 0.01, 0, *INT8).grad_fn is None


def test_double_backward_is_zero_in_x_and_linear_in_the_gradient():
    x = torch.tensor([0.3, 100.0, -2.0], requires_grad=True)
    grad_y = torch.tensor([5.0, 6.0, 7.0], requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 1.0, 0, *INT4)
    (grad_x,) = torch.autograd.grad(y, x, grad_y, create_graph=True)
    (grad_grad_y,) = torch.autograd.grad(grad_x, grad_y, torch.tensor([2.0, 3.0, 4.0]), create_graph=True)
    assert grad_grad_y.tolist() == [2, 0, 4]
    (zero,) = torch.autograd.grad(grad_x.sum(), x, allow_unused=True)
    assert zero is None


def test_batched_gradients_are_right():
    x = torch.tensor([0.3, 100.0, -2.0], requires_grad=True)
    y = ops.fake_quantize_per_tensor(x, 1.0, 0, *INT4)
    (jacobian,) = torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    assert torch.equal(jacobian, torch.diag(torch.tensor([1.0, 0.0, 1.0])))


def test_functorch_transforms_are_right():
    x = torch.randn(5, 6) * 3

    def f(x: Tensor) -> Tensor:
        return ops.fake_quantize_per_tensor(x, 0.5, 0, *INT4)

    assert torch.equal(torch.vmap(f)(x), f(x))
    grads = torch.vmap(torch.func.grad(lambda x: f(x).sum()))(x)
    assert torch.equal(grads, reference(x, 0.5, 0, *INT4)[1].float())
    scale, zero_point = torch.rand(6) + 0.1, torch.zeros(6, dtype=torch.int32)
    per_channel = torch.vmap(lambda x: ops.fake_quantize_per_channel(x, scale, zero_point, 0, *INT4))(x)
    assert torch.equal(per_channel, ops.fake_quantize_per_channel(x, scale, zero_point, 1, *INT4))


@pytest.mark.parametrize("needs_grad", [False, True])
def test_forward_derivatives_are_refused_and_never_lost(needs_grad):
    x, scale, zero_point = torch.randn(3, requires_grad=needs_grad), torch.ones(3), torch.zeros(3, dtype=torch.int32)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones(3))
        for quantized in (
            lambda: ops.fake_quantize_per_tensor(dual, 1.0, 0, *INT4),
            lambda: ops.fake_quantize_per_channel(dual, scale, zero_point, 0, *INT4),
        ):
            with pytest.raises(NotImplementedError, match="jvp"):
                quantized()
        state = (torch.zeros(1), torch.zeros(1), torch.ones(1))
        assert ops.fake_quantize_observed_per_tensor(dual, *state, 0.5, *INT4) is None
        assert [buffer.item() for buffer in state] == [0, 0, 1]


class Quantizer(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = ops.fake_quantize_per_tensor(x, 0.02, 3, *INT8)
        scale, zero_point = torch.full((4,), 0.05), torch.zeros(4, dtype=torch.int32)
        return ops.fake_quantize_per_channel(x, scale, zero_point, 1, *INT8)


def test_torch_compile_takes_it_whole_and_agrees_bit_for_bit():
    x = torch.randn(3, 4, 6, requires_grad=True)
    grad_y = torch.randn(3, 4, 6)
    compiled, eager = torch.compile(Quantizer(), fullgraph=True)(x), Quantizer()(x)
    assert same_bits(compiled, eager)
    assert same_bits(gradient(compiled, x, grad_y), gradient(eager, x, grad_y))


def test_torch_export_sees_one_node_for_each_call():
    program = torch.export.export(Quantizer(), (torch.randn(3, 4, 6),))
    targets = [str(node.target) for node in program.graph.nodes if "nashquant" in str(node.target)]
    assert targets == ["nashquant.fake_quantize_per_tensor.default", "nashquant.fake_quantize_per_channel.default"]


def test_checkpointed_training_gives_the_same_gradient():
    x = torch.randn(50, requires_grad=True)
    f = lambda x: ops.fake_quantize_per_tensor(x * 2, 0.01, 0, *INT8)  # noqa: E731
    plain = gradient(f(x), x, torch.ones(50))
    again = gradient(torch.utils.checkpoint.checkpoint(f, x, use_reentrant=False), x, torch.ones(50))
    assert torch.equal(plain, again)


def test_a_scale_tensor_equals_its_number():
    x = torch.randn(100)
    expected = ops.fake_quantize_per_tensor(x, 0.013, 0, *INT8)
    assert torch.equal(ops.fake_quantize_per_tensor(x, torch.tensor([0.013]), 0, *INT8), expected)
    assert torch.equal(ops.fake_quantize_per_tensor(x, torch.tensor(0.013).requires_grad_(), 0, *INT8), expected)


# What is wrong is said, in the same words by kernel and reference.


@pytest.fixture(params=["kernel", "reference"])
def path(request, monkeypatch):
    if request.param == "reference":
        for kernel in ("fake_quantize_per_tensor", "fake_quantize_per_channel"):
            monkeypatch.setattr(ops._rust, kernel, lambda *_: None)
        monkeypatch.setattr(ops._rust, "takes", lambda x: False)
    return request.param


@pytest.mark.parametrize("scale", [0.0, -1.0, NAN, INF, 1e-39, 1e39, 2.0**-128 + 2.0**-160])
def test_a_scale_that_cannot_divide_is_refused(path, scale):
    with pytest.raises(ValueError, match=r"^scale is .*, but must be positive and finite, and so must 1 / scale$"):
        ops.fake_quantize_per_tensor(torch.ones(3), scale, 0, *INT8)
    scales, zeros = torch.tensor([1.0, 1.0, scale]), torch.zeros(3, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"^scale\[2\] is .*, but must be positive and finite"):
        ops.fake_quantize_per_channel(torch.ones(3), scales, zeros, 0, *INT8)


def test_the_least_scale_with_a_finite_inverse_is_taken(path):
    least = torch.nextafter(torch.tensor(2.0**-128), torch.tensor(1.0)).item()
    assert torch.isfinite(1 / torch.tensor(least))
    assert ops.fake_quantize_per_tensor(torch.ones(1), least, 0, *INT8).item() > 0
    with pytest.raises(ValueError, match="scale is"):
        ops.fake_quantize_per_tensor(torch.ones(1), 2.0**-128, 0, *INT8)


def test_wrong_ranges_are_refused(path):
    x = torch.ones(3)
    with pytest.raises(ValueError, match=r"^qmin is 7 and qmax 7, but qmin must be less$"):
        ops.fake_quantize_per_tensor(x, 1.0, 7, 7, 7)
    with pytest.raises(ValueError, match=r"^zero_point is 9, but must lie between qmin -8 and qmax 7$"):
        ops.fake_quantize_per_tensor(x, 1.0, 9, *INT4)
    with pytest.raises(ValueError, match=r"span more than 2\*\*22 steps"):
        ops.fake_quantize_per_tensor(x, 1.0, 0, -(2**31), 2**31 - 1)
    with pytest.raises(ValueError, match=r"^scale has 2 values, but per tensor there is one$"):
        ops.fake_quantize_per_tensor(x, torch.ones(2), 0, *INT4)


def test_integers_that_i32_does_not_hold_are_named(path):
    x, scale, zero_point = torch.ones(3), torch.ones(3), torch.zeros(3, dtype=torch.int32)
    between = r"but must lie between -2\*\*31 and 2\*\*31 - 1"
    with pytest.raises(ValueError, match=rf"^qmax is {2**40}, {between}"):
        ops.fake_quantize_per_tensor(x, 1.0, 0, -8, 2**40)
    with pytest.raises(ValueError, match=rf"^zero_point is {2**31}, {between}"):
        ops.fake_quantize_per_tensor(x, 1.0, 2**31, -8, 7)
    with pytest.raises(ValueError, match=rf"^qmin is {-(2**31) - 1}, {between}"):
        ops.fake_quantize_per_channel(x, scale, zero_point, 0, -(2**31) - 1, 7)
    with pytest.raises(ValueError, match=rf"^qmax is {2**40}, {between}"):
        ops.fake_quantize_learnable_per_tensor(x, torch.ones(1), torch.zeros(1), -8, 2**40)
    with pytest.raises(ValueError, match=rf"^qmin is {-(2**40)}, {between}"):
        ops.mse_search_per_tensor(x, -(2**40), 7)


def test_wrong_channels_are_refused(path):
    x, zeros = torch.ones(2, 3), torch.zeros(3, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"^scale has 2 elements, but 3 are needed$"):
        ops.fake_quantize_per_channel(x, torch.ones(2), zeros, 1, *INT8)
    with pytest.raises(ValueError, match=r"^zero_point has 3 elements, but 2 are needed$"):
        ops.fake_quantize_per_channel(x, torch.ones(2), zeros, 0, *INT8)
    with pytest.raises(IndexError, match=r"^axis is 2, but x has 2 dimensions$"):
        ops.fake_quantize_per_channel(x, torch.ones(3), zeros, 2, *INT8)
    with pytest.raises(TypeError, match=r"^scale has dtype torch.float64, but must be torch.float32$"):
        ops.fake_quantize_per_channel(x, torch.ones(3, dtype=torch.float64), zeros, 1, *INT8)
    with pytest.raises(TypeError, match=r"^zero_point has dtype torch.int64, but must be torch.int32$"):
        ops.fake_quantize_per_channel(x, torch.ones(3), zeros.long(), 1, *INT8)
    with pytest.raises(ValueError, match=r"^zero_point\[1\] is 9, but must lie between qmin -8 and qmax 7$"):
        ops.fake_quantize_per_channel(x, torch.ones(3), torch.tensor([0, 9, 0], dtype=torch.int32), 1, *INT4)


@pytest.mark.parametrize("x", [[1.0], None, torch.ones(3).numpy()])
def test_what_is_no_tensor_is_refused(path, x):
    with pytest.raises(TypeError, match=f"^x is a {type(x).__name__}, but must be a torch.Tensor$"):
        ops.fake_quantize_per_tensor(x, 1.0, 0, *INT8)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_dtypes_are_refused(path, dtype):
    x = torch.zeros(3).to(dtype)
    message = f"^x has dtype {dtype}, but must be torch.float32, float64, bfloat16 or float16$"
    with pytest.raises(TypeError, match=message):
        ops.fake_quantize_per_tensor(x, 1.0, 0, *INT8)
    with pytest.raises(TypeError, match=message):
        ops.fake_quantize_per_channel(x, torch.ones(3), torch.zeros(3, dtype=torch.int32), 0, *INT8)


def test_reference_and_kernel_have_the_same_gradient():
    x = (torch.randn(500) * 2).requires_grad_()
    grad_y = torch.randn(500)
    ours = ops.fake_quantize_per_tensor(x, 0.01, 0, *INT8)
    theirs = _autograd.ReferencePerTensor.apply(x, torch.tensor(0.01), 0, *INT8)[0]
    assert same_bits(ours, theirs)
    assert same_bits(gradient(ours, x, grad_y), gradient(theirs, x, grad_y))
