"""With TFLite's rounding our integers are those of LiteRT's reference kernels: the arithmetic meets something real."""

from __future__ import annotations

import pytest
import torch

from nashquant import ops
from nashquant.arithmetic import TFLITE, TFLITE_FULLY_CONNECTED, TFLITE_INT16

pytest.importorskip("ai_edge_litert", reason="LiteRT has no wheel for this Python")

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .tflite_models import Model, Tensor

OPERATOR, OPTIONS = schema.BuiltinOperator, schema.BuiltinOptions
CASES = range(6)


def scale(generator: np.random.Generator, center: float) -> float:
    return float(np.float32(center * np.exp(generator.uniform(-1.5, 1.5))))


def integers(generator: np.random.Generator, dtype: str, *shape: int) -> np.ndarray:
    ends = np.iinfo(dtype)
    values = generator.integers(ends.min, ends.max + 1, shape, dtype=dtype)
    flat = values.reshape(-1)
    flat[:2] = ends.min, ends.max
    return values


def equal(ours: torch.Tensor, theirs: np.ndarray) -> None:
    assert ours.numpy().dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert len(np.unique(theirs)) > 20, "most of it saturates, which shows nothing"
    differing = (ours.numpy() != theirs).sum()
    assert differing == 0, f"{differing} of {theirs.size} differ"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", ["ADD", "SUB"])
def test_add_and_sub(path, name, dtype, case):
    generator = np.random.default_rng(case)
    a, b = integers(generator, dtype, 1, 5000), integers(generator, dtype, 1, 5000)
    of_a, of_b, of_y = (scale(generator, center) for center in (0.05, 0.05, 0.08))
    options = schema.AddOptionsT() if name == "ADD" else schema.SubOptionsT()
    options.potScaleInt16 = False
    model = Model(
        code=getattr(OPERATOR, name),
        version=2,
        options=options,
        options_type=OPTIONS.AddOptions if name == "ADD" else OPTIONS.SubOptions,
        inputs=[Tensor(a.shape, dtype, [of_a]), Tensor(b.shape, dtype, [of_b])],
        output=Tensor(a.shape, dtype, [of_y]),
    )
    op = ops.add_saturating if name == "ADD" else ops.sub_saturating
    pair = torch.from_numpy(a), torch.from_numpy(b)
    equal(op(*pair, of_a / of_y, of_b / of_y, arithmetic=TFLITE), model.run(a, b))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_mul(path, dtype, case):
    generator = np.random.default_rng(case)
    a, b = integers(generator, dtype, 1, 5000), integers(generator, dtype, 1, 5000)
    center = 0.05 if dtype == "int8" else 0.0004
    of_a, of_b, of_y = (np.float32(scale(generator, c)) for c in (center, center, center * 3))
    model = Model(
        code=OPERATOR.MUL,
        version=2,
        options=schema.MulOptionsT(),
        options_type=OPTIONS.MulOptions,
        inputs=[Tensor(a.shape, dtype, [float(of_a)]), Tensor(b.shape, dtype, [float(of_b)])],
        output=Tensor(a.shape, dtype, [float(of_y)]),
    )
    factor = float(of_a * of_b / of_y)  # in f32, as TFLite has it
    ours = ops.mul_saturating(torch.from_numpy(a), torch.from_numpy(b), factor, arithmetic=TFLITE)
    equal(ours, model.run(a, b))


def weight_and_bias(generator, dtype, shape, n):
    weight = generator.integers(-127, 128, shape, dtype="int8")
    bias = generator.integers(-3000, 3000, n, dtype="int32" if dtype == "int8" else "int64")
    return weight, bias


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_conv(path, depthwise, dtype, case):
    generator = np.random.default_rng(case)
    n, channels, stride = 6, 6 if depthwise else 5, 1 + case % 2
    of_x, of_y = scale(generator, 0.02), scale(generator, 0.1 if dtype == "int8" else 0.15)
    of_w = [scale(generator, 0.01) for _ in range(n)]
    zero_x, zero_y = (int(z) for z in generator.integers(-128, 128, 2)) if dtype == "int8" else (0, 0)
    weight, bias = weight_and_bias(generator, dtype, (1, 3, 3, n) if depthwise else (n, 3, 3, channels), n)
    x = integers(generator, dtype, 2, 12, 11, channels)
    size = (2, (12 - 3) // stride + 1, (11 - 3) // stride + 1, n)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.VALID, stride, stride
    options.dilationHFactor = options.dilationWFactor = 1
    if depthwise:
        options.depthMultiplier = 1
    model = Model(
        code=OPERATOR.DEPTHWISE_CONV_2D if depthwise else OPERATOR.CONV_2D,
        version=5 if dtype == "int16" and depthwise else 4 if dtype == "int16" else 3,
        options=options,
        options_type=OPTIONS.DepthwiseConv2DOptions if depthwise else OPTIONS.Conv2DOptions,
        inputs=[
            Tensor(x.shape, dtype, [of_x], zero_x),
            Tensor(weight.shape, "int8", of_w, data=weight, axis=3 if depthwise else 0),
            Tensor(bias.shape, str(bias.dtype), [of_x * s for s in of_w], data=bias),
        ],
        output=Tensor(size, dtype, [of_y], zero_y),
    )
    ours = ops.conv_requantize(
        torch.from_numpy(x).permute(0, 3, 1, 2),
        torch.from_numpy(weight).permute(3, 0, 1, 2) if depthwise else torch.from_numpy(weight).permute(0, 3, 1, 2),
        torch.from_numpy(bias),
        torch.tensor([of_x * s / of_y for s in of_w], dtype=torch.float64),
        getattr(torch, dtype),
        stride,
        groups=channels if depthwise else 1,
        zero_point_x=zero_x,
        zero_point=zero_y,
        arithmetic=TFLITE if dtype == "int8" else TFLITE_INT16,
    )
    equal(ours.permute(0, 2, 3, 1), model.run(x))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_fully_connected(path, dtype, case):
    generator = np.random.default_rng(case)
    n, depth = 40, 70
    of_x, of_w = (np.float32(scale(generator, center)) for center in (0.02, 0.01))
    of_y = scale(generator, 0.15 if dtype == "int8" else 0.2)
    zero_x, zero_y = (int(z) for z in generator.integers(-128, 128, 2)) if dtype == "int8" else (0, 0)
    weight, bias = weight_and_bias(generator, dtype, (n, depth), n)
    x = integers(generator, dtype, 30, depth)
    model = Model(
        code=OPERATOR.FULLY_CONNECTED,
        version=7 if dtype == "int16" else 4,
        options=schema.FullyConnectedOptionsT(),
        options_type=OPTIONS.FullyConnectedOptions,
        inputs=[
            Tensor(x.shape, dtype, [float(of_x)], zero_x),
            Tensor(weight.shape, "int8", [float(of_w)], data=weight),
            Tensor(bias.shape, str(bias.dtype), [float(of_x * of_w)], data=bias),
        ],
        output=Tensor((30, n), dtype, [of_y], zero_y),
    )
    ours = ops.matmul_requantize(
        torch.from_numpy(x),
        ops.PackedWeight(torch.from_numpy(weight), getattr(torch, dtype)),
        torch.from_numpy(bias),
        float(of_x) * float(of_w) / of_y,
        getattr(torch, dtype),
        zero_point_a=zero_x,
        zero_point=zero_y,
        arithmetic=TFLITE_FULLY_CONNECTED,
    )
    equal(ours, model.run(x))
