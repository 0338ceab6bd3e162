"""The one place that calls the Rust kernels: allocates outputs, straightens inputs, says which tensors they take."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling
from typing_extensions import Unpack

from nashquant import _core

from ._clamp import Clamp

Mask = _core.Mask
Backward = _core.Backward
_StateAndRule = tuple[Tensor, Tensor, Tensor, Tensor, float, int, int, str, int, float]
cpu_capability = _core.cpu_capability
_ONE = torch.empty((), dtype=torch.float32, device="cpu")  # room like this costs half of what `torch.empty(())` does
_PLAIN = (Tensor, torch.nn.Parameter)
# Looked up once: for a tensor of 1K elements, looking up costs as much as the kernel.
_has_storage = torch._C._has_storage
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active
_tracing = torch._C._is_tracing
_is_dense = _core.is_dense
_empty_like = torch.empty_like
_count_change = torch._C._increment_version  # autograd shall know what was written behind its back


def takes(x: Tensor) -> bool:
    """Is `x` memory that a kernel can read now: on the CPU, and nobody is tracing or transforming?"""
    return (
        not is_dynamo_compiling()
        and type(x) in _PLAIN
        and x.is_cpu
        and not _modes()
        and not _transforms()
        and not _tracing()
    )


def takes_gradient(grad_y: Tensor) -> bool:
    """The same of a gradient, which comes to the device of `x`, but may be batched, or zeros without memory."""
    return type(grad_y) is Tensor and _has_storage(grad_y) and not grad_y._is_zerotensor()


def dense(x: Tensor) -> Tensor:
    """`x`, or a copy without gaps, in the order torch gives to outputs of elementwise operators."""
    if x.is_neg() or not _is_dense(x):
        x = x.detach()
        return _empty_like(x).copy_(x)
    return x


def _one(scale: float | Tensor) -> float:
    if not isinstance(scale, Tensor):
        return scale
    if scale.numel() != 1:
        raise ValueError(f"scale has {scale.numel()} values, but per tensor there is one")
    return scale.item()


def _bounds(clamp: Clamp) -> tuple[float, float]:
    return clamp.low, clamp.high


def fake_quantize_per_tensor(
    x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int, clamp: Clamp | None = None
) -> Tensor:
    """Fake-quantized `x`, without a gradient."""
    x = dense(x)
    y = _empty_like(x)
    _core.fake_quantize_per_tensor(
        x, y, scale if type(scale) is float else _one(scale), zero_point, qmin, qmax, clamp and _bounds(clamp)
    )
    return y


def fake_quantize_per_tensor_with_mask(
    x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int, clamp: Clamp | None
) -> tuple[Tensor, _core.Mask]:
    """Also which elements were inside the grid."""
    x = dense(x)
    y = _empty_like(x)
    mask = _core.fake_quantize_per_tensor_with_mask(
        x, y, scale if type(scale) is float else _one(scale), zero_point, qmin, qmax, clamp and _bounds(clamp)
    )
    return y, mask


def takes_state(*state: Tensor) -> bool:
    """Are these buffers memory that a kernel can write now?"""
    for buffer in state:  # noqa: SIM110  (a generator for `all` takes twice as long)
        if type(buffer) not in _PLAIN or not buffer.is_cpu or buffer.is_neg():
            return False
    return True


def fake_quantize_observed_per_tensor(
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    averaging_constant: float,
    qmin: int,
    qmax: int,
    clamp: Clamp | None,
) -> Tensor | None:
    """Moves `state` (`min_val`, `max_val`, `scale`) by `x` and fake-quantizes it; None if it did not."""
    x = dense(x)
    y = _empty_like(x)
    written = _core.fake_quantize_observed_per_tensor(
        x, y, *state, averaging_constant, qmin, qmax, clamp and _bounds(clamp)
    )
    if not written:
        return None
    _count_change(state)
    return y


def fake_quantize_observed_per_tensor_with_mask(
    x: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    averaging_constant: float,
    qmin: int,
    qmax: int,
    clamp: Clamp | None,
) -> tuple[Tensor, _core.Mask] | None:
    """Also which elements were inside the grid."""
    x = dense(x)
    y = _empty_like(x)
    mask = _core.fake_quantize_observed_per_tensor_with_mask(
        x, y, *state, averaging_constant, qmin, qmax, clamp and _bounds(clamp)
    )
    if mask is None:
        return None
    _count_change(state)
    return y, mask


def fake_quantize_observed_as_torch_per_tensor(x: Tensor, *arguments: Unpack[_StateAndRule]) -> Tensor | None:
    """As `fake_quantize_observed_per_tensor`, by one of torch's rules."""
    x = dense(x)
    y = _empty_like(x)
    if not _core.fake_quantize_observed_as_torch_per_tensor(x, y, *arguments):
        return None
    _count_change(arguments[:4])
    return y


def fake_quantize_observed_as_torch_per_tensor_with_mask(
    x: Tensor, *arguments: Unpack[_StateAndRule]
) -> tuple[Tensor, _core.Mask] | None:
    """Also which elements were inside the grid."""
    x = dense(x)
    y = _empty_like(x)
    mask = _core.fake_quantize_observed_as_torch_per_tensor_with_mask(x, y, *arguments)
    if mask is None:
        return None
    _count_change(arguments[:4])
    return y, mask


def fake_quantize_observed_per_channel(
    x: Tensor, state: tuple[Tensor, Tensor, Tensor], axis: int, averaging_constant: float, qmin: int, qmax: int
) -> Tensor | None:
    """As `fake_quantize_observed_per_tensor`, with a range for each index of `axis`."""
    x = dense(x)
    y = _empty_like(x)
    written = _core.fake_quantize_observed_per_channel(x, y, *state, axis, averaging_constant, qmin, qmax)
    if not written:
        return None
    _count_change(state)
    return y


def fake_quantize_observed_per_channel_with_mask(
    x: Tensor, state: tuple[Tensor, Tensor, Tensor], axis: int, averaging_constant: float, qmin: int, qmax: int
) -> tuple[Tensor, _core.Mask] | None:
    """Also which elements were inside their grid."""
    x = dense(x)
    y = _empty_like(x)
    mask = _core.fake_quantize_observed_per_channel_with_mask(x, y, *state, axis, averaging_constant, qmin, qmax)
    if mask is None:
        return None
    _count_change(state)
    return y, mask


def fake_quantize_per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    """Fake-quantized `x`, without a gradient."""
    x, scale, zero_point = dense(x), scale.contiguous(), zero_point.contiguous()
    y = _empty_like(x)
    _core.fake_quantize_per_channel(x, y, scale=scale, zero_point=zero_point, axis=axis, qmin=qmin, qmax=qmax)
    return y


def fake_quantize_per_channel_with_mask(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> tuple[Tensor, _core.Mask]:
    """Also which elements were inside their grid."""
    x, scale, zero_point = dense(x), scale.contiguous(), zero_point.contiguous()
    y = _empty_like(x)
    mask = _core.fake_quantize_per_channel_with_mask(
        x, y, scale=scale, zero_point=zero_point, axis=axis, qmin=qmin, qmax=qmax
    )
    return y, mask


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
