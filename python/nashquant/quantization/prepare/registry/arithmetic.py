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
    ),
    OpEntry("sub", OpKind.ELEMENTWISE, aliases=("subtract", "rsub")),
    OpEntry("mul", OpKind.ELEMENTWISE, aliases=("multiply",)),
    OpEntry("div", OpKind.ELEMENTWISE, aliases=("divide", "true_divide", "truediv")),
    *(OpEntry(name, OpKind.ELEMENTWISE) for name in ("maximum", "minimum", "where", "neg", "abs", "addcmul", "lerp")),
    OpEntry("masked_fill", OpKind.ELEMENTWISE),
    OpEntry("relu", OpKind.CLAMP, (nn.ReLU,), joins=(Joins.ACTIVATION,), suffix="ReLU"),
    OpEntry("relu6", OpKind.CLAMP, (nn.ReLU6,), joins=(Joins.ACTIVATION,), suffix="ReLU6"),
    OpEntry("hardtanh", OpKind.CLAMP, (nn.Hardtanh,)),
    OpEntry("clamp", OpKind.CLAMP, aliases=("clip", "clamp_min", "clamp_max")),
)
