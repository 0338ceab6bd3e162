"""The one place that calls the Rust kernels: allocates outputs, straightens inputs, says which tensors they take."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from nashquant import _core

Mask = _core.Mask
Backward = _core.Backward
cpu_capability = _core.cpu_capability
_ONE = torch.empty((), dtype=torch.float32, device="cpu")  # room like this costs half of what `torch.empty(())` does
# Looked up once: for a tensor of 1K elements, looking up costs as much as the kernel.
_has_storage = torch._C._has_storage
_is_dense = _core.is_dense
_empty_like = torch.empty_like


def takes(x: Tensor) -> bool:
    """Is `x` memory that a kernel can read now: on the CPU, and nobody is tracing or transforming?"""
    return not is_dynamo_compiling() and _core.takes(x)


def takes_gradient(grad_y: Tensor) -> bool:
    """The same of a gradient, which comes to the device of `x`, but may be batched, or zeros without memory."""
    return type(grad_y) is Tensor and _has_storage(grad_y) and not grad_y._is_zerotensor()


def dense(x: Tensor) -> Tensor:
    """`x`, or a copy without gaps, in the order torch gives to outputs of elementwise operators."""
    if x.is_neg() or not _is_dense(x):
        x = x.detach()
        return _empty_like(x).copy_(x)
    return x


Rounded = tuple[Tensor, Mask | None]
"""`x` on the grid, and what autograd will want, if it will. Kernels give None for what they don't take."""
fake_quantize_observed_as_torch_per_tensor = _core.fake_quantize_observed_as_torch_per_tensor
fake_quantize_observed_per_channel = _core.fake_quantize_observed_per_channel
fake_quantize_observed_per_tensor = _core.fake_quantize_observed_per_tensor
fake_quantize_per_channel = _core.fake_quantize_per_channel
fake_quantize_per_tensor = _core.fake_quantize_per_tensor


def fake_quantize_backward(grad_y: Tensor, mask: _core.Mask) -> Tensor:
    """`grad_y` where the mask says inside, times 0 elsewhere; in the memory order of the forward's `x`."""
    if grad_y.is_neg() or not mask.fits(grad_y):
        grad_y = torch.empty_strided(mask.shape, mask.strides, dtype=grad_y.dtype).copy_(grad_y)
    grad_x = _empty_like(grad_y)
    _core.fake_quantize_backward(grad_y, mask, grad_x)
    return grad_x


def fake_quantize_backward_in_place(grad_y: Tensor, mask: _core.Mask) -> bool:
    """The same in the place of `grad_y`; False, and nothing was changed, if that has another memory order."""
    if grad_y.is_neg() or not mask.fits(grad_y):
        return False
    _core.fake_quantize_backward_in_place(grad_y, mask)
    return True


def fake_quantize_learnable_backward(
    grad_y: Tensor,
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int | None,
    qmin: int,
    qmax: int,
    grad_factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `x`, `scale` and `zero_point`; per tensor if `axis` is None."""
    x = dense(x)
    if grad_y.is_neg() or grad_y.stride() != x.stride():
        grad_y = _empty_like(x).copy_(grad_y)
    grad_x = _empty_like(x)
    grad_scale = torch.empty(scale.shape, dtype=torch.float32)
    grad_zero_point = torch.empty(zero_point.shape, dtype=torch.float32)
    _core.fake_quantize_learnable_backward(
        grad_y,
        x,
        grad_x,
        grad_scale,
        grad_zero_point,
        scale=scale.contiguous(),
        zero_point=zero_point.contiguous(),
        axis=axis,
        qmin=qmin,
        qmax=qmax,
        grad_factor=grad_factor,
    )
    return grad_x, grad_scale, grad_zero_point


def unpack(mask: _core.Mask) -> Tensor:
    """The mask as bools."""
    inside = torch.empty_strided(mask.shape, mask.strides, dtype=torch.bool)
    mask.unpack(inside)
    return inside


def _per_channel(x: Tensor, axis: int) -> Tensor:
    """Room for one f32 for each channel; the kernel refuses an axis that is not there."""
    has_axis = -x.dim() <= axis < x.dim()
    return torch.empty(x.shape[axis] if has_axis else 0, dtype=torch.float32)


def min_max_per_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value, f32, 0-d."""
    low, high = _empty_like(_ONE), _empty_like(_ONE)
    _core.min_max_per_tensor(dense(x), low, high)
    return low, high


def min_max_per_channel(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest value at each index of `axis`, f32."""
    low, high = _per_channel(x, axis), _per_channel(x, axis)
    _core.min_max_per_channel(dense(x), low, high, axis=axis)
    return low, high


def histogram_per_tensor(x: Tensor, limit: float, bins: int) -> Tensor:
    """Counts of |x|, int64."""
    counts = torch.empty(max(bins, 0), dtype=torch.int64)
    _core.histogram_per_tensor(dense(x), counts, limit=limit)
    return counts


def histogram_per_channel(x: Tensor, axis: int, limit: Tensor, bins: int) -> Tensor:
    """Counts of |x| at each index of `axis`, int64."""
    bins, limit = max(bins, 0), limit.contiguous()
    has_axis = -x.dim() <= axis < x.dim()
    counts = torch.empty(x.shape[axis] if has_axis else 0, bins, dtype=torch.int64)
    _core.histogram_per_channel(dense(x), limit, counts, axis=axis, bins=bins)
    return counts


def percentile_per_tensor(x: Tensor, percentile: float) -> Tensor:
    """The magnitude at that percentile, f32, 0-d."""
    return torch.full((), _core.percentile_per_tensor(dense(x), percentile=percentile), dtype=torch.float32)


def mse_search_per_tensor(x: Tensor, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """The winning threshold, f32, 0-d."""
    threshold = _core.mse_search_per_tensor(dense(x), qmin=qmin, qmax=qmax, stride=stride)
    return torch.full((), threshold, dtype=torch.float32)


def mse_search_per_channel(x: Tensor, axis: int, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """The winning threshold of each index of `axis`, f32."""
    threshold = _per_channel(x, axis)
    _core.mse_search_per_channel(dense(x), threshold, axis=axis, qmin=qmin, qmax=qmax, stride=stride)
    return threshold
