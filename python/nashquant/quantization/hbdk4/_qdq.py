"""How a fake quantize is said in ONNX: QuantizeLinear, then DequantizeLinear, on the same grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import opset21 as op

from nashquant import ops  # noqa: F401  (importing it registers the operators)

from ._joins import JOINS
from ._ready import check_range

OPSET = 21  # the first one with int16 and int4 in QuantizeLinear

PER_TENSOR = torch.ops.nashquant.fake_quantize_per_tensor.default
PER_TENSOR_OF_BUFFER = torch.ops.nashquant.fake_quantize_per_tensor.tensor
PER_CHANNEL = torch.ops.nashquant.fake_quantize_per_channel.default
FAKE_QUANTIZE = frozenset({PER_TENSOR, PER_TENSOR_OF_BUFFER, PER_CHANNEL})

_STORED = {-8: ir.DataType.INT4, -128: ir.DataType.INT8, -32768: ir.DataType.INT16}


def translations() -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    return {
        PER_TENSOR: _per_tensor,
        PER_TENSOR_OF_BUFFER: _per_tensor_of_buffer,
        PER_CHANNEL: _per_channel,
        torch.ops.aten.linear.default: _linear,
        **JOINS,
    }


def stored_as(qmin: int, qmax: int) -> ir.DataType:
    """The integer type with exactly this range.

    Raises:
        ValueError: there is none.
    """
    check_range(qmin, qmax, "a call of fake_quantize")
    return _STORED[qmin]


def _per_tensor(x: Any, scale: float, zero_point: int, qmin: int, qmax: int) -> Any:
    return _quantize_dequantize(x, _constant(np.float32(scale)), _zero(zero_point, qmin, qmax))


def _per_tensor_of_buffer(x: Any, scale: Any, zero_point: int, qmin: int, qmax: int) -> Any:
    return _quantize_dequantize(x, op.Squeeze(scale), _zero(zero_point, qmin, qmax))


def _per_channel(x: Any, scale: Any, zero_point: Any, axis: int, qmin: int, qmax: int) -> Any:
    zero = op.Cast(zero_point, to=int(stored_as(qmin, qmax)))
    return _quantize_dequantize(x, scale, zero, axis=axis)


def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """A Gemm on any number of axes, the weight as it is.

    torch's own translation is Transpose, MatMul, Add on three axes and more, which ONNX Runtime 1.28 to 1.32 turns
    into a graph that it then refuses to load.
    """
    bias = (bias,) if bias is not None else ()
    if len(x.shape) == 2:
        return op.Gemm(x, weight, *bias, transB=1)
    channels, features = weight.shape
    flat = op.Gemm(op.Reshape(x, _integers(-1, features)), weight, *bias, transB=1)
    outer = x.shape[:-1]
    if all(isinstance(size, int) for size in outer):
        return op.Reshape(flat, _integers(*outer, channels))
    return op.Reshape(flat, op.Concat(op.Shape(x, start=0, end=-1), _integers(channels), axis=0))


def _integers(*values: int) -> Any:
    return _constant(np.array(values, np.int64))


def _zero(zero_point: int, qmin: int, qmax: int) -> Any:
    return _constant(np.array(zero_point, stored_as(qmin, qmax).numpy()))


def _constant(value: Any) -> Any:
    return op.Constant(value=ir.to_proto(ir.tensor(value)))


def _quantize_dequantize(x: Any, scale: Any, zero: Any, **axis: int) -> Any:
    # Scales are f32, and up to opset 22 QuantizeLinear wants x to be what its scale is.
    dtype = x.dtype
    if dtype != ir.DataType.FLOAT:
        x = op.Cast(x, to=int(ir.DataType.FLOAT))
    y = op.DequantizeLinear(op.QuantizeLinear(x, scale, zero, **axis), scale, zero, **axis)
    return y if dtype == ir.DataType.FLOAT else op.Cast(y, to=int(dtype))
