"""Element by element: arithmetic, limits, comparisons."""

from __future__ import annotations

from torch import nn

from nashquant.nn import float_functional
from nashquant.op_kind import OpKind

from .entry import Joins, OpEntry

__all__ = ["ENTRIES"]

ENTRIES = (
    OpEntry("add", OpKind.ELEMENTWISE, joins=(Joins.SUM,), suffix="Add"),
    OpEntry(
        "add_relu",
        OpKind.ELEMENTWISE,
        functions=(float_functional.add_relu,),
        joins=(Joins.SUM, Joins.ACTIVATION),
        suffix="AddReLU",
        note="FloatFunctional.add_relu",
    ),
    OpEntry("sub", OpKind.ELEMENTWISE, aliases=("subtract", "rsub")),
    OpEntry("mul", OpKind.ELEMENTWISE, aliases=("multiply",)),
    *(OpEntry(name, OpKind.ELEMENTWISE) for name in ("maximum", "minimum", "where", "masked_fill")),
    OpEntry("fmax", OpKind.ELEMENTWISE, no_onnx="ONNX has no maximum that skips NaN; use maximum"),
    OpEntry("fmin", OpKind.ELEMENTWISE, no_onnx="ONNX has no minimum that skips NaN; use minimum"),
    *(OpEntry(name, OpKind.ELEMENTWISE) for name in ("neg", "abs", "addcmul", "lerp")),
    OpEntry("scatter_add", OpKind.ELEMENTWISE),
    OpEntry("index_add", OpKind.ELEMENTWISE),
    OpEntry("relu", OpKind.CLAMP, (nn.ReLU,), joins=(Joins.ACTIVATION,), suffix="ReLU"),
    OpEntry("relu6", OpKind.CLAMP, (nn.ReLU6,), joins=(Joins.ACTIVATION,), suffix="ReLU6"),
    OpEntry("hardtanh", OpKind.CLAMP, (nn.Hardtanh,)),
    OpEntry("clamp", OpKind.CLAMP, aliases=("clip", "clamp_min", "clamp_max")),
    *(OpEntry(name, OpKind.COMPARE) for name in ("eq", "ne", "isclose", "equal")),
    OpEntry("ge", OpKind.COMPARE, aliases=("greater_equal",)),
    OpEntry("gt", OpKind.COMPARE, aliases=("greater",)),
    OpEntry("le", OpKind.COMPARE, aliases=("less_equal",)),
    OpEntry("lt", OpKind.COMPARE, aliases=("less",)),
    OpEntry("logical_and", OpKind.COMPARE, aliases=("and",)),
    OpEntry("logical_or", OpKind.COMPARE, aliases=("or",)),
    OpEntry("logical_xor", OpKind.COMPARE, aliases=("xor",)),
    OpEntry("logical_not", OpKind.COMPARE, aliases=("invert",)),
    *(OpEntry(name, OpKind.COMPARE) for name in ("isnan", "isinf", "isfinite", "signbit", "all", "any")),
    *(OpEntry(name, OpKind.COMPARE) for name in ("argmax", "argmin", "argsort", "nonzero", "count_nonzero")),
    *(OpEntry(name, OpKind.COMPARE) for name in ("bool", "int", "long", "short", "char", "byte")),
)
