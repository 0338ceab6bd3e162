"""The arithmetic of docs/numerics.md on fractions, one number at a time; and small graphs to meet it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from nashquant.nash import IntegerModel


def factor(value: float) -> Fraction:
    """The nearest number with 31 bits."""
    mantissa, exponent = math.frexp(value)
    return Fraction(round(Fraction(mantissa) * 2**31)) * Fraction(2) ** (exponent - 31)


def saturated(value: int, low: int = -128, high: int = 127) -> int:
    return max(low, min(value, high))


def landed(acc: Tensor, of: Callable[[int], Fraction | float], low: int = -128, high: int = 127) -> Tensor:
    """`saturate(round_half_even(acc * factor))` for each element; `of` has the factor of an index of axis 1."""
    out = torch.empty_like(acc)
    for index in np.ndindex(*acc.shape):
        channel = index[1] if len(index) > 1 else 0
        out[index] = saturated(round(int(acc[index]) * factor(float(of(channel)))), low, high)
    return out


def graph(
    body: str, inputs: str, outputs: str, opset: int = 21, **initializers: np.ndarray | Sequence[float] | float
) -> onnx.ModelProto:
    """A model in ONNX's own text form; floats among the initializers are f32."""
    text = f'<ir_version: 10, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for name, values in initializers.items():
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for output in model.graph.output:  # "float o" names a number; what it is follows from the rest
        if not output.type.tensor_type.shape.dim:
            output.type.tensor_type.ClearField("shape")
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model)
    return model


def onnx_runtime(model: onnx.ModelProto, *inputs: Tensor) -> list[Tensor]:
    """What ONNX Runtime computes, each node as it is."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arrays = {each.name: x.numpy() for each, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(np.array(array)) for array in session.run(None, arrays)]


def int8(*shape: int) -> Tensor:
    return torch.randint(-128, 128, shape, dtype=torch.int8)


def only_integers(model: IntegerModel) -> bool:
    """Whether nothing between the first quantizer and the last is computed on floats."""
    return not model.report.floats and model.report.coverage == 1.0
