"""The natural logarithm of integers, in integers: a table of the first 12 bits, and two terms of the series behind."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["logarithm"]

_INDEX = 12
_BITS = 43  # behind the point, of all terms
_STARTS = [1 + i / 2**_INDEX for i in range(2**_INDEX)]
_LOGS = torch.tensor([round(math.log(start) * 2**_BITS) for start in _STARTS])
_RECIPROCALS = torch.tensor([round(2**31 / start) for start in _STARTS])
_LN2 = round(math.log(2) * 2**_BITS)


def logarithm(x: Tensor, bits: int) -> Tensor:
    """`ln(x)` with `bits` (up to 35) behind the point, off by less than a step; x is int64, 1 to 2**53 - 1.

    `x = 2^e · (start + rest)`, with a table of starts: `ln(x) = e·ln 2 + ln(start) + d - d²/2`, `d = rest / start`.

    >>> logarithm(torch.tensor([1, 2, 1000]), 8) / 256  # ln 2 = 0.6931, ln 1000 = 6.9078
    tensor([0.0000, 0.6914, 6.9062])
    """
    exponent = torch.frexp(x.double())[1].long() - 1  # exact: an f64 has 53 bits
    normal = x << (52 - exponent)  # the leading one at 2^52
    index = (normal >> (52 - _INDEX)) & (2**_INDEX - 1)
    rest = (normal & (2 ** (52 - _INDEX) - 1)) >> (52 - _BITS)  # 31 bits
    d = (rest * _RECIPROCALS[index]) >> 31
    total = exponent * _LN2 + _LOGS[index] + d - (d * d >> (_BITS + 1))
    y: Tensor = (total + (1 << (_BITS - bits - 1))) >> (_BITS - bits)
    return y
