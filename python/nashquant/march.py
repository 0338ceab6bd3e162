"""What each chip can do: frozen data, and the one global that says which chip is meant."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from .arithmetic import NASH, Arithmetic
from .dtype import DType, QuantDType, qint8, qint16
from .op_kind import OpKind

__all__ = ["March", "MarchSpec", "OpRule", "get_march", "require_march", "set_march"]


class March(enum.Enum):
    """The NASH marches. `March.NASH_E == March("nash-e")`."""

    NASH_E = "nash-e"  # Journey 6E, RDK S100
    NASH_M = "nash-m"  # Journey 6M, RDK S100P
    NASH_P = "nash-p"  # Journey 6P, RDK S600
    NASH_H = "nash-h"  # Journey 6H
    NASH_B = "nash-b"
    NASH_B_LITE = "nash-b-lite"
    NASH_B_PLUS = "nash-b-plus"

    @property
    def spec(self) -> MarchSpec:
        """What this march allows."""
        return _SPECS[self]


_OLDER = ("bernoulli", "bernoulli2", "bayes", "bayes-e")


@dataclass(frozen=True)
class OpRule:
    """The dtypes one kind of op takes and gives.

    `outputs` lists, for each input dtype, the output dtypes the chip can produce from it, narrowest first.
    """

    weights: tuple[QuantDType, ...] = (qint8, qint16)
    outputs: Mapping[QuantDType, tuple[QuantDType, ...]] = field(
        default_factory=lambda: MappingProxyType({qint8: (qint8, qint16), qint16: (qint8, qint16)})
    )


_ANY = OpRule()
# A table of 256 int8 entries answers int8 with int8; only the segmented int16 table can give either.
_LUT = OpRule(outputs=MappingProxyType({qint8: (qint8,), qint16: (qint8, qint16)}))


@dataclass(frozen=True)
class MarchSpec:
    """What one march allows. Public facts, see docs/migrate.md; change a rule here and nowhere else.

    Attributes:
        activations: dtypes an activation may have.
        weights: dtypes a weight may have.
        accumulator: what a GEMM gives when its output is left in high precision.
        high_precision_kinds: kinds of op that can give it.
        sum_in: input dtypes of a GEMM that can take an addition into its accumulator (conv + add).
        equal_operands: names of ops (see the op registry) whose operands must have one dtype.
        arithmetic: how integers are multiplied, rounded and looked up.
        rules: kind of op -> what it takes and gives; kinds not listed follow `OpRule()`.
    """

    accumulator: str
    activations: tuple[DType, ...] = (qint8, qint16)
    weights: tuple[QuantDType, ...] = (qint8, qint16)
    high_precision_kinds: frozenset[OpKind] = frozenset({OpKind.GEMM, OpKind.MATMUL})
    sum_in: tuple[QuantDType, ...] = (qint8,)
    equal_operands: frozenset[str] = frozenset({"add", "add_relu", "sub"})
    arithmetic: Arithmetic = NASH
    rules: Mapping[OpKind, OpRule] = field(default_factory=lambda: MappingProxyType({OpKind.LUT: _LUT}))

    def rule(self, kind: OpKind | None) -> OpRule:
        """What ops of `kind` take and give."""
        return _ANY if kind is None else self.rules.get(kind, _ANY)


_INT32 = MarchSpec(accumulator="int32")
_FLOAT = MarchSpec(accumulator="float16 or float32", activations=(qint8, qint16, torch.float16))
_SPECS: Mapping[March, MarchSpec] = MappingProxyType(
    {
        March.NASH_E: _INT32,
        March.NASH_M: _INT32,
        March.NASH_P: _FLOAT,
        March.NASH_H: _FLOAT,
        March.NASH_B: _FLOAT,
        March.NASH_B_LITE: _FLOAT,
        March.NASH_B_PLUS: _FLOAT,
    }
)

_current: March | None = None


def set_march(march: March | str) -> None:
    """Says which chip models are prepared for, from now on and for the whole process.

    >>> set_march("nash-e")
    >>> get_march()
    <March.NASH_E: 'nash-e'>

    Raises:
        ValueError: `march` is a string that names no NASH march.
        TypeError: `march` is neither a March nor a string.
    """
    global _current
    if isinstance(march, str):
        names = ", ".join(repr(member.value) for member in March)
        name = march.lower().replace("_", "-")
        if name in _OLDER:
            raise ValueError(f"march {march!r} is older than NASH; nashquant knows {names}")
        try:
            march = March(name)
        except ValueError:
            raise ValueError(f"march {march!r} is unknown; nashquant knows {names}") from None
    if not isinstance(march, March):
        raise TypeError(f"set_march takes a March or its name, not {march!r}")
    _current = march


def get_march() -> March | None:
    """The march that was set, or None."""
    return _current


def require_march(who: str) -> March:
    """The march that was set.

    Raises:
        RuntimeError: none was; says which call is missing and that `who` needs it.
    """
    if _current is None:
        raise RuntimeError(
            f"{who} needs to know the chip: call nashquant.set_march(March.NASH_M) (or another member) first"
        )
    return _current
