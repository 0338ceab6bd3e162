"""What one entry of the op registry says."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from nashquant.op_kind import OpKind

__all__ = ["Joins", "OpEntry"]


class Joins(enum.Enum):
    """What an op becomes part of: a conv or linear takes [norm], [sum], [activation], in this order."""

    NORM = "folded into the weight of the conv or linear before it"
    SUM = "summed into the accumulator of a conv or linear"
    ACTIVATION = "applied to the accumulator of a conv or linear"
    MASKED = "takes a mask of -inf, added or filled in before it, into itself"


@dataclass(frozen=True)
class OpEntry:
    """One op.

    Attributes:
        name: the word in `_generated_<name>_<i>`, and the torch function of that name, in every spelling.
        kind: what it does to the grid of its inputs; dtype rules go by it.
        modules: float classes that compute it; each has a quantized twin of the same name in `nashquant.nn.qat`.
        aliases: other names of the torch function.
        functions: functions of other homes that are this op.
        weight_axis: the weight's axis of output channels; the weight is the second operand of a functional call.
        activations: how many operands, from the first, are activations; None: all. The rest (a weight and bias, the
            gain of a norm, an attention mask) is no tensor of the chip's, or has a quantizer of its own.
        norm: of a conv or linear: the batch norm that folds into its weight.
        joins: what it may become in a fused op, in order.
        suffix: what it adds to the name of the fused op's type: the "AddReLU" of ConvAddReLU2d.
        coordinates: the operand that says where to look, and deserves int16: by position and by keyword.
        with_tensor: the op it is where its second operand is a tensor too: `max(x, y)` joins two grids.
        parts: the same function written in single ops.
        rare: whether a call of it is in a form that `parts` does not know.
        note: what else a user should know.
        no_onnx: why it can't be exported; "" where it can.
    """

    name: str
    kind: OpKind
    modules: tuple[type[nn.Module], ...] = ()
    aliases: tuple[str, ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    weight_axis: int = 0
    activations: int | None = None
    norm: type[nn.Module] | None = None
    joins: tuple[Joins, ...] = ()
    suffix: str = ""
    coordinates: tuple[str, ...] = ()
    with_tensor: str | None = None
    parts: Callable[..., Any] | None = None
    rare: Callable[..., bool] | None = None
    note: str = ""
    no_onnx: str = ""

    @property
    def makes_grid(self) -> bool:
        """Whether the output has a quantizer of its own."""
        return self.kind.makes_grid

    @property
    def redirected(self) -> bool:
        """Whether a functional call of it is redirected: to a module that holds or borrows a quantizer, or in parts."""
        return self.makes_grid or self.kind in (OpKind.RESAMPLE, OpKind.SPELLED)

    def spelled_out(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any] | None:
        """The call in single ops, to be run; None if it is one op, or in a rare form."""
        parts = self.parts
        if parts is None or (self.rare is not None and self.rare(*args, **kwargs)):
            return None
        return lambda: parts(*args, **kwargs)
