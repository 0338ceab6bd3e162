"""The operands of an op that are no activations: shapes, indices, axes; constant or computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor

from ._forms import NotIntegerError
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["arguments", "axes_of"]


def arguments(plan: Plan, node: ir.Node) -> tuple[tuple[str, ...], Callable[..., list[Tensor | None]]]:
    """The slots of those computed, and what completes them: all operands behind the first, in order."""
    values = list(node.inputs[1:])
    constants = [plan.constant(value) for value in values]
    dynamic = [i for i, (v, c) in enumerate(zip(values, constants, strict=True)) if v is not None and c is None]
    slots = tuple(plan.plain(cast("ir.Value", values[i])) for i in dynamic)

    def complete(*given: Tensor) -> list[Tensor | None]:
        found = list(constants)
        for i, tensor in zip(dynamic, given, strict=True):
            found[i] = tensor
        return found

    return slots, complete


def axes_of(plan: Plan, node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction: an attribute, or an operand since opset 18; None for all.

    Raises:
        NotIntegerError: they are computed.
    """
    given = attribute(node, "axes")
    if given is not None:
        return tuple(int(axis) for axis in cast("Sequence[int]", given))
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None:
        return () if attribute(node, "noop_with_empty_axes", 0) else None
    constant = plan.constant(value)
    if constant is None:
        raise NotIntegerError("its axes are computed")
    axes = tuple(int(axis) for axis in constant.flatten())
    return axes or (() if attribute(node, "noop_with_empty_axes", 0) else None)
