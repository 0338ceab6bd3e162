"""The differentiable functions that quantizers and observers are made of.

Eager CPU tensors go to the Rust kernels; other devices, `torch.compile` and functorch to the torch reference;
`torch.export` sees one operator for each call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _autograd, _check, _library, _rust, _torch  # noqa: F401  (_library registers the operators)

__all__ = [
    "fake_quantize_per_channel",
    "fake_quantize_per_tensor",
    "min_max_per_channel",
    "min_max_per_tensor",
    "mse_search_per_channel",
    "mse_search_per_tensor",
]


def fake_quantize_per_tensor(x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    """`x` rounded to the grid `qmin ... qmax` in steps of `scale`, with a straight-through gradient.

    `y = (clamp(round(x * (1 / scale)) + zero_point, qmin, qmax) - zero_point) * scale`, ties to even. NaN goes to
    `qmin`'s value. The gradient passes where nothing was clamped, and is 0 elsewhere.

    >>> fake_quantize_per_tensor(torch.tensor([0.5, 1.5, -2.5, 100.0]), 1.0, 0, -8, 7)
    tensor([ 0.,  2., -2.,  7.])

    Args:
        x: any shape and strides; f32, f64, bf16 or f16. The result has the same.
        scale: one positive number, used in f32.
        zero_point: the integer that means 0.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.

    Raises:
        ValueError: `scale` or `1 / scale` is not positive and finite, or the integers make no range.
        TypeError: `x` is not of a float dtype named above.
    """
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)  # type: ignore[no-any-return]
    if not _rust.takes(x):
        scale = _check.per_tensor(x, scale, zero_point, qmin, qmax)
        return _autograd.ReferencePerTensor.apply(x, scale, zero_point, qmin, qmax)[0]  # type: ignore[no-untyped-call,no-any-return]
    if x.requires_grad and torch.is_grad_enabled():
        return _autograd.PerTensor.apply(x, scale, zero_point, qmin, qmax)  # type: ignore[no-untyped-call,no-any-return]
    return _rust.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)


def fake_quantize_per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    """As `fake_quantize_per_tensor`, with its own `scale` and `zero_point` for each index of `axis`.

    >>> x = torch.tensor([[0.3, 0.3], [0.3, 99.0]])
    >>> fake_quantize_per_channel(x, torch.tensor([0.25, 0.5]), torch.zeros(2, dtype=torch.int32), 0, -8, 7)
    tensor([[0.2500, 0.2500],
            [0.5000, 3.5000]])

    Args:
        x: any shape and strides, with `C` indices on `axis`; f32, f64, bf16 or f16. The result has the same.
        scale: `[C]`, f32, positive.
        zero_point: `[C]`, int32.
        axis: may be negative.
        qmin: least integer.
        qmax: greatest integer; less than 2**22 above `qmin`.

    Raises:
        ValueError: a scale or its inverse is not positive and finite, or lengths differ; names the channel.
        TypeError: a dtype is not as above.
        IndexError: `x` has no such axis.
    """
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)  # type: ignore[no-any-return]
    if not _rust.takes(x):
        _check.per_channel(x, scale, zero_point, axis, qmin, qmax)
        return _autograd.ReferencePerChannel.apply(x, scale, zero_point, axis, qmin, qmax)[0]  # type: ignore[no-untyped-call,no-any-return]
    if x.requires_grad and torch.is_grad_enabled():
        return _autograd.PerChannel.apply(x, scale, zero_point, axis, qmin, qmax)  # type: ignore[no-untyped-call,no-any-return]
    return _rust.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)


def min_max_per_tensor(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of `x`: two f32 tensors, 0-d; NaN in both if `x` has a NaN. Never -0.0.

    Raises:
        ValueError: `x` has no elements.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    kernel = _rust.min_max_per_tensor if _rust.takes(x) else _torch.min_max_per_tensor
    return kernel(x.detach())


def min_max_per_channel(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """As `min_max_per_tensor`, for each index of `axis`: two f32 tensors `[C]`.

    Raises:
        ValueError: a channel has no elements.
        TypeError: `x` is not f32, f64, bf16 or f16.
        IndexError: `x` has no such axis.
    """
    kernel = _rust.min_max_per_channel if _rust.takes(x) else _torch.min_max_per_channel
    return kernel(x.detach(), axis)


def mse_search_per_tensor(x: Tensor, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """The threshold that quantizes `x` with the least squared error: f32, 0-d.

    Candidates are `max_abs * i / 100` for i = 1, 1 + stride, ... and 100; the scale of a threshold is
    `threshold / ((qmax - qmin) / 2)`, at least 2**-23; on a tie the larger wins. Errors are f32 for each element,
    their sum f64. If `max_abs * 100` is not finite, the answer is `max_abs`.

    Raises:
        ValueError: `x` has no elements, `stride` is less than 1, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16.
    """
    kernel = _rust.mse_search_per_tensor if _rust.takes(x) else _torch.mse_search_per_tensor
    return kernel(x.detach(), qmin, qmax, stride)


def mse_search_per_channel(x: Tensor, axis: int, qmin: int, qmax: int, stride: int = 1) -> Tensor:
    """As `mse_search_per_tensor`, for each index of `axis`: f32 `[C]`.

    Raises:
        ValueError: a channel has no elements, `stride` is less than 1, or the integers make no range.
        TypeError: `x` is not f32, f64, bf16 or f16.
        IndexError: `x` has no such axis.
    """
    kernel = _rust.mse_search_per_channel if _rust.takes(x) else _torch.mse_search_per_channel
    return kernel(x.detach(), axis, qmin, qmax, stride)
