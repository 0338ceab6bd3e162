"""Fake quantization as exporters can read it.

torch's own operator is one node, which `torch.onnx.export` turns into QuantizeLinear and DequantizeLinear, but only for
0 ... 255, 0 ... 127 and -128 ... 127. A narrower range of 8 bits is a clamp before one of these; others, as those of 16
bits, are spelled out.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["per_channel", "per_tensor"]

_READ = ((0, 255), (0, 127), (-128, 127))

# What shape and dtype torch's operators give, torch does not say per channel, nor where scale and zero point are
# tensors: without that, there is neither an export with a dynamic batch nor a tensor on "meta".
_UNKNOWN = (
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_channel_affine_cachemask",
)


def _same_and_mask(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


_shapes = torch.library.Library("aten", "IMPL", "Meta")  # type: ignore[no-untyped-call]  # goes when it is forgotten
for _name in _UNKNOWN:
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _shapes.impl(_name, _same_and_mask)  # type: ignore[no-untyped-call]


def per_tensor(x: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int, qmax: int) -> Tensor:
    """`torch.fake_quantize_per_tensor_affine` in operators that any exporter reads."""
    wider = _wider(qmin, qmax)
    if wider is None:
        return _spelled_out(x, scale, zero_point, qmin, qmax)
    if wider != (qmin, qmax):
        x = _clamped(x, scale, zero_point, qmin, qmax)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, *wider)  # type: ignore[arg-type]


def per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    """`torch.fake_quantize_per_channel_affine` in operators that any exporter reads."""
    shape = [1] * x.dim()
    shape[axis] = -1
    wider = None if zero_point.is_floating_point() else _wider(qmin, qmax)
    if wider is None:
        return _spelled_out(x, scale.reshape(shape), zero_point.reshape(shape), qmin, qmax)
    if wider != (qmin, qmax):
        x = _clamped(x, scale.reshape(shape), zero_point.reshape(shape), qmin, qmax)
    return torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, *wider)


def _wider(qmin: int, qmax: int) -> tuple[int, int] | None:
    if (qmin, qmax) in _READ:
        return qmin, qmax
    enclosing = [(low, high) for low, high in _READ if low <= qmin and qmax <= high]
    return enclosing[0] if enclosing else None


def _clamped(x: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int, qmax: int) -> Tensor:
    low, high = (torch.as_tensor((end - zero_point) * scale, dtype=x.dtype) for end in (qmin, qmax))
    return torch.minimum(torch.maximum(x, low), high)


def _spelled_out(x: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int, qmax: int) -> Tensor:
    if isinstance(zero_point, Tensor) and zero_point.is_floating_point():
        steps = torch.round(x.float() * (1.0 / scale) + zero_point)
        return ((steps.clamp(qmin, qmax) - zero_point) * scale).to(x.dtype)
    steps = torch.round(x.float() * (1.0 / scale)) + zero_point
    return ((steps.clamp(qmin, qmax) - zero_point) * scale).to(x.dtype)
