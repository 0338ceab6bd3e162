"""Functions of one number: a table on the chip, direct for int8, in segments for int16."""

from __future__ import annotations

from torch import nn

from nashquant.op_kind import OpKind

from .entry import OpEntry

__all__ = ["ENTRIES"]

_MODULES: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "leaky_relu": nn.LeakyReLU,
    "logsigmoid": nn.LogSigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "hardshrink": nn.Hardshrink,
    "softshrink": nn.Softshrink,
}

_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logit", "sqrt", "rsqrt", "reciprocal", "square"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "sinc"),
    *("erf", "erfc", "ceil", "floor", "round", "trunc", "frac", "sign", "deg2rad", "rad2deg"),
)

ENTRIES = (
    *(OpEntry(name, OpKind.LUT, (module,)) for name, module in _MODULES.items()),
    OpEntry("rrelu", OpKind.LUT, (nn.RReLU,), no_onnx="torch has no translation of its random slopes"),
    OpEntry("threshold", OpKind.LUT, (nn.Threshold,)),
    OpEntry("pow", OpKind.LUT, with_tensor="pow_tensor"),
    *(OpEntry(name, OpKind.LUT) for name in _FUNCTIONS),
)
