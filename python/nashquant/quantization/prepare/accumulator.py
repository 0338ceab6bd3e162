"""How large the sums of a conv, linear or matmul may become, where the chip adds them up in 32 bits."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from nashquant.dtype import QuantDType
from nashquant.op_kind import OpKind

from .graph import Op
from .plan import Plan

__all__ = ["overflow"]

_HOLDS = 31  # bits of an int32 besides its sign
_ROWS_BY_COLUMNS = ("matmul", "bmm", "mm", "mv", "dot", "inner", "vecdot")
_ROWS_SUM_TO_ONE = ("softmax", "attention_weights")


def overflow(plan: Plan, op: Op, model: nn.Module) -> str | None:
    """What to tell of an op whose sums may leave int32; None if they can't, or nobody knows.

    With every integer at the end of its range a sum is its depth times the largest product. A weight has few integers
    there: `sum(|w|) / max(|w|)` stands for its depth, in the channel where that is most, by the weights as they are.
    """
    dtypes = _factors(plan, op)
    if plan.graph.march.spec.accumulator != "int32" or not dtypes:
        return None
    product = sum(dtype.bits - 1 for dtype in dtypes)
    module: Any = model.get_submodule(op.first.path) if op.first.site is None else None
    depth = _depth(plan, op, module)
    if depth == 0 or math.log2(depth) + product <= _HOLDS:
        return None
    worth = depth if module is None else min(depth, _worth(op, module.weight.detach()))
    reach = math.log2(worth) + product
    if reach <= _HOLDS:
        return None
    names = "*".join(str(dtype).removeprefix("q") for dtype in dtypes)
    return f"sums of {depth} products {names} may reach 2**{reach:.1f}, the accumulator is int32"


def _factors(plan: Plan, op: Op) -> list[QuantDType]:
    """The two that are multiplied, if both are integers."""
    dtypes: list[Any] = plan.input_dtypes(op)[:2]
    if op.kind is OpKind.GEMM:
        weight = plan.qconfigs[op.name].weight
        dtypes = [*dtypes[:1], None if weight is None else weight.dtype]
    elif op.kind is not OpKind.MATMUL:
        return []
    return dtypes if len(dtypes) == 2 and all(isinstance(dtype, QuantDType) for dtype in dtypes) else []


def _depth(plan: Plan, op: Op, module: Any) -> int:
    """How many products a sum has; 0 where nobody knows, or where they can't all be large."""
    call = op.first
    assert call.entry is not None
    if op.kind is OpKind.MATMUL:
        if call.entry.name not in _ROWS_BY_COLUMNS or call.data is None:
            return 0
        rows = plan.graph.grid_of(call.data)
        name = "" if rows is None or rows.first.entry is None else rows.first.entry.name
        return 0 if name in _ROWS_SUM_TO_ONE else call.data.shape[-1]
    if module is not None and call.entry.weight_axis == 1:  # transposed: an output meets every `stride`th tap
        taps = zip(module.kernel_size, module.stride, strict=True)
        return int(module.in_channels // module.groups * math.prod(math.ceil(size / step) for size, step in taps))
    weight = (operand.value.shape for operand in call.operands if operand.position in ("1", "weight"))
    shape = tuple(module.weight.shape) if module is not None else next(weight, (0,))
    return math.prod(shape) // max(shape[call.entry.weight_axis], 1)


def _worth(op: Op, weight: Tensor) -> float:
    """How many of its largest integers the weight of a channel adds up to, where that is most."""
    assert op.first.entry is not None
    if weight.is_meta or not weight.numel():
        return math.inf
    rows = weight.movedim(op.first.entry.weight_axis, 0).flatten(1).abs().float()
    return max(1.0, float((rows.sum(1) / rows.amax(1)).nan_to_num(1.0).amax()))
