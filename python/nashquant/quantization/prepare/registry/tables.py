"""Functions of one number: a table on the chip, direct for int8, in segments for int16."""

from __future__ import annotations

from torch import nn

from nashquant.nn import functions
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

_OUR_MODULES: dict[str, type[nn.Module]] = {name.lower(): getattr(functions, name) for name in functions.__all__}

_FUNCTIONS = (
    *("exp2", "expm1", "log", "log2", "log10", "log1p", "logit", "rsqrt", "square", "sinc"),
    *("erfc", "round", "trunc", "frac", "sign", "deg2rad", "rad2deg"),
)

ENTRIES = (
    *(OpEntry(name, OpKind.LUT, (module,)) for name, module in {**_MODULES, **_OUR_MODULES}.items()),
    OpEntry("rrelu", OpKind.LUT, (nn.RReLU,), no_onnx="torch has no translation of its random slopes"),
    OpEntry("threshold", OpKind.LUT, (nn.Threshold,)),
    OpEntry("pow", OpKind.LUT, with_tensor="pow_tensor"),
    *(OpEntry(name, OpKind.LUT) for name in _FUNCTIONS),
)
