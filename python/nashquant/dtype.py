"""What each integer type is: frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

__all__ = ["DType", "QuantDType", "QuantInfo", "qinfo", "qint4", "qint8", "qint16"]


@dataclass(frozen=True, repr=False)
class QuantDType:
    """A signed integer type of the NASH BPU. Compare with `==` or `is`; copies and pickles are the same object.

    >>> qint8, qint8.qmin, qint8.qmax
    (qint8, -128, 127)
    """

    name: str
    bits: int

    @property
    def qmin(self) -> int:
        """The least integer the type holds."""
        return -(1 << (self.bits - 1))

    @property
    def qmax(self) -> int:
        """The greatest integer the type holds."""
        return (1 << (self.bits - 1)) - 1

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


qint4 = QuantDType("qint4", 4)
qint8 = QuantDType("qint8", 8)
qint16 = QuantDType("qint16", 16)


DType = QuantDType | torch.dtype
"""What a tensor of a prepared model is: an integer type; torch.float16, cast; torch.float32, in high precision."""


class QuantInfo(NamedTuple):
    """The range of an integer type, both ends included."""

    min: int
    max: int


def qinfo(dtype: QuantDType) -> QuantInfo:
    """The range of `dtype`.

    >>> qinfo(qint16)
    QuantInfo(min=-32768, max=32767)

    Raises:
        TypeError: `dtype` is not one of qint4, qint8, qint16.
    """
    if not isinstance(dtype, QuantDType):
        raise TypeError(f"qinfo takes one of qint4, qint8, qint16, not {dtype!r}")
    return QuantInfo(dtype.qmin, dtype.qmax)
