"""What templates have said so far about each op: one table that each of them writes into."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nashquant.dtype import DType, QuantDType, qint4, qint8, qint16
from nashquant.quantization.prepare.graph import Graph, Op

__all__ = ["Ask", "DtypeTable", "DtypeTemplate", "parsed_dtype", "parsed_inputs", "parsed_threshold", "parsed_weight"]

_BY_NAME: Mapping[str, DType] = {
    **{str(dtype): dtype for dtype in (qint4, qint8, qint16)},
    **{name: dtype for dtype in (torch.float32, torch.float16) for name in (str(dtype), str(dtype)[6:])},
}


@dataclass
class Ask:
    """What is asked of one op; None and what is not listed: nothing was said.

    Attributes:
        frozen: parts ("input", "weight", "output") that later templates leave alone.
        dynamic: whether the output's scale is taken from each tensor.
        threshold: the greatest value of the output, instead of what is observed.
        input_thresholds: the same for operands, in their order.
    """

    output: DType | None = None
    weight: DType | None = None
    inputs: tuple[DType | None, ...] = ()
    dynamic: bool = False
    threshold: float | None = None
    input_thresholds: tuple[float | None, ...] = ()
    frozen: set[str] = field(default_factory=set)


class DtypeTable:
    """An `Ask` for each op that makes a grid, by the op's name."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ops = [op for op in graph.ops if op.makes_grid]
        self.asks = {op.name: Ask() for op in self.ops}

    def say(self, op: Op, part: str, **said: Any) -> None:
        """Writes attributes of the op's `Ask` that belong to `part`, unless that is frozen."""
        ask = self.asks[op.name]
        if part not in ask.frozen:
            vars(ask).update({name: value for name, value in said.items() if value is not None})

    def below(self, prefix: str | Sequence[str] | None) -> Iterable[Op]:
        """The ops one of whose names is, or lies below, one of the prefixes; None and "": all ops."""
        prefixes = [prefix] if isinstance(prefix, str) else prefix
        for op in self.ops:
            if prefixes is None or any(lies_below(name, each) for each in prefixes for name in op.names):
                yield op


class DtypeTemplate:
    """Base class of the templates of `QconfigSetter`."""

    def write(self, table: DtypeTable) -> None:
        """Says what this template has to say."""
        raise NotImplementedError(f"{type(self).__name__} says nothing: it must override `write`")


def lies_below(name: str, prefix: str) -> bool:
    """Whether `name` is `prefix`, or the name of something in the module of that name. All lies below ""."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def parsed_dtype(value: Any, what: str) -> DType:
    """A dtype from itself or its name.

    Raises:
        TypeError: it is none that a template takes.
    """
    dtype = _BY_NAME.get(value) if isinstance(value, str) else value
    if isinstance(dtype, QuantDType) or dtype in (torch.float32, torch.float16):
        return dtype
    raise TypeError(f"{what} takes qint8, qint16, torch.float16 or torch.float32 (not quantized), not {value!r}")


def parsed_weight(value: Any, what: str) -> DType:
    """The dtype of a weight, from itself or its name.

    Raises:
        TypeError: it is none that a template takes; torch.float16 is for activations.
    """
    dtype = parsed_dtype(value, what)
    if dtype is torch.float16:
        raise TypeError(f"{what} is torch.float16, but a weight is of integers on every march: take qint8 or qint16")
    return dtype


def parsed_inputs(value: Any, what: str) -> tuple[DType | None, ...]:
    """The dtypes of operands, from one for the first or a list with one for each; float32 there: as it comes."""
    values = value if isinstance(value, (list, tuple)) else [value]
    dtypes = [None if each is None else parsed_dtype(each, what) for each in values]
    return tuple(None if dtype is torch.float32 else dtype for dtype in dtypes)


def parsed_threshold(value: Any, what: str) -> float:
    """A number above 0.

    Raises:
        ValueError: it is none.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value > 0 or not math.isfinite(value):
        raise ValueError(f"{what} takes a finite number above 0, not {value!r}")
    return float(value)
