"""ONNX's own test vectors: what QuantizeLinear, DequantizeLinear, QLinearConv and their kin must give."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.case import node as cases
from torch import Tensor

from nashquant.nash import convert

OPS = ("quantizelinear", "dequantizelinear", "qlinearconv", "qlinearmatmul", "convinteger", "matmulinteger")
ACTIVATIONS = {"x", "a", "b", "A", "B"}  # the rest are scales, zero points and weights, constant in a real model
# Types that ONNX Runtime on the CPU or torch does not have.
WITHOUT = ("e4m3fn", "e5m2", "float4e2m1", "uint2", "int2", "quantizelinear_uint4", "quantizelinear_int4")


def vectors() -> dict[str, Any]:
    for op in OPS:
        importlib.import_module(f"onnx.backend.test.case.node.{op}")
    named = {case.name.removeprefix("test_"): case for case in cases._NodeTestCases}
    return {name: case for name, case in named.items() if name.startswith(OPS) and not any(w in name for w in WITHOUT)}


VECTORS = vectors()


def with_constants(case: Any) -> tuple[onnx.ModelProto, list[np.ndarray], np.ndarray]:
    """The model with all inputs but its activations as initializers; those activations; the output."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    model.opset_import[0].version = 21  # these ops have been the same since
    ((inputs, (output,)),) = case.data_sets
    inputs, output = [as_array(each) for each in inputs], as_array(output)
    given = []
    for value, array in zip(list(model.graph.input), inputs, strict=True):
        if value.name in ACTIVATIONS:
            given.append(array)
        else:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
            model.graph.input.remove(value)
    return model, given, output


def as_array(value: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def as_torch(array: np.ndarray) -> Tensor:
    wider = {"uint16": np.int32, "uint4": np.uint8, "int4": np.int8}.get(array.dtype.name)
    return torch.from_numpy(np.array(array if wider is None else array.astype(wider)))


def test_every_op_has_vectors():
    assert {op for op in OPS for name in VECTORS if name.startswith(op)} == set(OPS)


@pytest.mark.parametrize("name", VECTORS)
def test_the_integer_model_gives_what_the_vectors_say(name):
    model, given, expected = with_constants(VECTORS[name])
    integer = convert(model)
    found = integer(*map(as_torch, given))
    assert isinstance(found, Tensor)
    assert found.shape == expected.shape
    if expected.dtype.kind == "f":
        assert torch.allclose(found.double(), torch.from_numpy(expected.astype(np.float64)), rtol=1e-6)
    else:
        assert torch.equal(found.long(), torch.from_numpy(expected.astype(np.int64)))
    if name.startswith("qlinear"):
        assert not integer.report.floats
