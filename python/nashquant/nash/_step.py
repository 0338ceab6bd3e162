"""One step of the plan."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ._forms import Form, Target

__all__ = ["Made", "Place", "Run", "Step"]

Run = Callable[..., Tensor | tuple[Tensor, ...]]


class Place(enum.Enum):
    """What a step computes on."""

    ENTRY = "quantize"
    INTEGER = "integer"
    MOVE = "move"
    EXIT = "dequantize"
    FLOAT = "float"
    FRONT = "in front"
    BEHIND = "behind"
    SHAPE = "shape"


@dataclass(frozen=True, eq=False)
class Made:
    """What an op of the graph became: how to run it, on which slots, and what it gives.

    Attributes:
        run: takes the tensors of `inputs`, gives those of `forms`.
        inputs: slots.
        forms: one for each output.
        accumulators: as `run`, but gives the accumulators from before they are rounded; None if it has none.
    """

    run: Run
    inputs: tuple[str, ...]
    forms: tuple[Form, ...]
    accumulators: Callable[..., Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One call of the integer model.

    Attributes:
        layer: the module or node it comes from.
        op: the ONNX ops it stands for, joined by `+`.
        place: what it computes on.
        run: takes the tensors in the slots `inputs`, gives those of `outputs`.
        target: the grid of its result, if it made one.
        reason: of a float step: why.
        accumulators: see `Made`.
        last: slots that nothing needs after this step.
    """

    layer: str
    op: str
    place: Place
    run: Run
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    target: Target | None = None
    reason: str = ""
    accumulators: Callable[..., Tensor] | None = None
    last: tuple[str, ...] = field(default=())
