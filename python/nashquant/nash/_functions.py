"""Pointwise functions of ONNX in f64: what a table is filled with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["FUNCTIONS", "Function"]

Function = Callable[..., Tensor]


def _number(node: ir.Node, name: str, default: float) -> float:
    return float(str(attribute(node, name, default)))


def _plain(function: Function) -> Callable[[ir.Node], Function]:
    return lambda node: function


def _clip(node: ir.Node) -> Function:
    ends = {name: attribute(node, name) for name in ("min", "max")}

    def run(x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
        for end, name, limit in ((least, "min", torch.maximum), (most, "max", torch.minimum)):
            if end is None and ends[name] is not None:
                end = torch.tensor(float(str(ends[name])), dtype=torch.float64)
            x = x if end is None else limit(x, end)
        return x

    return run


def _hard_sigmoid(node: ir.Node) -> Function:
    alpha, beta = _number(node, "alpha", 0.2), _number(node, "beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _with(name: str, default: float, function: Function) -> Callable[[ir.Node], Function]:
    """`function(x, number)` with a number that is an attribute."""

    def of(node: ir.Node) -> Function:
        number = _number(node, name, default)
        return lambda x: function(x, number)

    return of


def _elu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _selu(node: ir.Node) -> Function:
    alpha, gamma = _number(node, "alpha", 1.6732632423543772), _number(node, "gamma", 1.0507009873554805)
    return lambda x: gamma * _elu(x, alpha)


def _celu(node: ir.Node) -> Function:
    alpha = _number(node, "alpha", 1.0)
    return lambda x: torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) / alpha))


def _gelu(node: ir.Node) -> Function:
    approximate = str(attribute(node, "approximate", "none"))
    return lambda x: F.gelu(x, approximate=approximate)


def _shrink(node: ir.Node) -> Function:
    limit, bias = _number(node, "lambd", 0.5), _number(node, "bias", 0.0)
    return lambda x: torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, 0.0))


def _mod(node: ir.Node) -> Function:
    return torch.fmod if attribute(node, "fmod", 0) else torch.remainder


def _folded(function: Function) -> Callable[[ir.Node], Function]:
    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return lambda node: run


FUNCTIONS: dict[str, Callable[[ir.Node], Function]] = {
    **{
        name: _plain(getattr(torch, name.lower()))
        for name in (
            *("Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Sigmoid", "Tanh", "Erf", "Sin", "Cos", "Tan"),
            *("Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Floor", "Ceil", "Sign", "Round"),
        )
    },
    **{name: _plain(getattr(torch, name.lower())) for name in ("Add", "Sub", "Mul", "Div", "Pow")},
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Sum": _folded(torch.add),
    "Mod": _mod,
    "Relu": _plain(torch.relu),
    "Clip": _clip,
    "LeakyRelu": _with("alpha", 0.01, lambda x, slope: torch.where(x < 0, slope * x, x)),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "ThresholdedRelu": _with("alpha", 1.0, lambda x, limit: torch.where(x > limit, x, 0.0)),
    "Elu": _with("alpha", 1.0, _elu),
    "Selu": _selu,
    "Celu": _celu,
    "Shrink": _shrink,
    "Softplus": _plain(lambda x: torch.logaddexp(x, torch.zeros((), dtype=torch.float64))),
    "Softsign": _plain(lambda x: x / (1 + x.abs())),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(lambda x: x * (x / 6 + 0.5).clamp(0, 1)),
    "Swish": _with("alpha", 1.0, lambda x, alpha: x * torch.sigmoid(alpha * x)),
    "Gelu": _gelu,
    "Mish": _plain(F.mish),
    "Where": _plain(lambda condition, a, b: torch.where(condition != 0, a, b)),
    **{
        name: _plain(lambda a, b, function=function: function(a, b).double())
        for name, function in (
            ("Equal", torch.eq),
            ("Greater", torch.gt),
            ("GreaterOrEqual", torch.ge),
            ("Less", torch.lt),
            ("LessOrEqual", torch.le),
        )
    },
    "And": _plain(lambda a, b: ((a != 0) & (b != 0)).double()),
    "Or": _plain(lambda a, b: ((a != 0) | (b != 0)).double()),
    "Xor": _plain(lambda a, b: ((a != 0) ^ (b != 0)).double()),
    "Not": _plain(lambda a: (a == 0).double()),
    "IsNaN": _plain(lambda x: x.isnan().double()),
}
