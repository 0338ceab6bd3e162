"""What an observer can be told, and clear words where it was told something else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any

import torch

from nashquant.dtype import QuantDType

__all__ = ["accepted_arguments", "check_grid", "check_qscheme", "check_unit_interval", "reject_unknown"]


@functools.cache
def accepted_arguments(observer: type) -> tuple[str, ...]:
    """The argument names of `observer`, those it hands on to its bases by `**common` included."""
    names: dict[str, None] = {}
    for cls in observer.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        names.update({p.name: None for p in parameters if p.kind is not p.VAR_KEYWORD})
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return tuple(names)


def reject_unknown(observer: type, given: Iterable[str]) -> None:
    """Raises TypeError, with the list of what is accepted, if `given` has a name `observer` does not take."""
    accepted = accepted_arguments(observer)
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise TypeError(
            f"{observer.__name__} does not take {', '.join(map(repr, unknown))}; it takes {', '.join(accepted)}"
        )


def check_grid(dtype: Any, quant_min: int | None, quant_max: int | None) -> tuple[int, int]:
    """The ends of the grid: of `dtype`, where not narrowed by `quant_min` and `quant_max`."""
    if not isinstance(dtype, QuantDType):
        raise TypeError(f"dtype is {dtype!r}, expected one of qint4, qint8, qint16 (from nashquant.dtype)")
    qmin = dtype.qmin if quant_min is None else quant_min
    qmax = dtype.qmax if quant_max is None else quant_max
    if not dtype.qmin <= qmin <= 0 < qmax <= dtype.qmax:
        raise ValueError(
            f"quant_min is {qmin} and quant_max is {qmax}, expected "
            f"{dtype.qmin} <= quant_min <= 0 < quant_max <= {dtype.qmax} ({dtype})"
        )
    return qmin, qmax


def check_qscheme(qscheme: Any, ch_axis: int) -> bool:
    """Whether `qscheme` is per channel.

    Raises:
        ValueError: `qscheme` is neither of the two symmetric schemes, or disagrees with `ch_axis`.
    """
    if qscheme not in (torch.per_tensor_symmetric, torch.per_channel_symmetric):
        raise ValueError(
            f"qscheme is {qscheme!r}, expected torch.per_tensor_symmetric or torch.per_channel_symmetric: "
            "NASH quantization is symmetric"
        )
    per_channel: bool = qscheme == torch.per_channel_symmetric
    if not per_channel and ch_axis != -1:
        raise ValueError(
            f"ch_axis={ch_axis} has no meaning per tensor; did you mean qscheme=torch.per_channel_symmetric?"
        )
    return per_channel


def check_unit_interval(name: str, value: Any) -> float:
    """`value` as a float. Raises ValueError if it is not within 0 ... 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)
