"""Reads what the sensitivity analysis saved: which op hurts most."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

__all__ = ["SensitivityRow", "SensitivityTable", "first", "sensitivity_rows"]

SensitivityTable = Sequence[Sequence[Any]] | str | os.PathLike[str]


class SensitivityRow(NamedTuple):
    """One row: the op's name, and whether it is about the op's weight."""

    name: str
    about_weight: bool


def sensitivity_rows(table: SensitivityTable) -> list[SensitivityRow]:
    """The rows in their order, most sensitive first.

    Args:
        table: rows `[op name, ..., sensitivity, ...]` of 3 to 7 fields, as the sensitivity analysis saves them; or the
            path of a `.pt` file with such a table, loaded with `weights_only=True`.

    Raises:
        ValueError: the table has other rows, or a sensitivity is NaN.
    """
    where = "the sensitivity table"
    if isinstance(table, (str, os.PathLike)):
        where = f"the sensitivity table {os.fspath(table)!r}"
        table = _loaded(table, where)
    if not isinstance(table, Sequence) or isinstance(table, (str, bytes)):
        raise ValueError(f"{where} must be a list of rows, not {type(table).__name__}")
    rows = []
    for number, row in enumerate(table):
        if not isinstance(row, (list, tuple)) or not 3 <= len(row) <= 7 or not isinstance(row[0], str):
            raise ValueError(f"row {number} of {where} must have 3 to 7 fields, the first an op name; it is {row!r}")
        numbers = [field for field in row[1:] if isinstance(field, (int, float)) and not isinstance(field, bool)]
        if not numbers:
            raise ValueError(f"row {number} of {where} holds no number that could be a sensitivity: {row!r}")
        if any(map(math.isnan, numbers)):
            raise ValueError(
                f"row {number} of {where} has the sensitivity nan, which has no place in an order: {row!r}. "
                "The analysis met NaN in an output; leave the row out, or measure again"
            )
        rows.append(SensitivityRow(row[0].partition("[")[0], "weight" in row[1:]))
    return rows


def first(count: int, topk: int | None, ratio: float | None) -> int:
    """How many of `count` rows `topk` or `ratio` (a share, rounded up) means.

    Raises:
        ValueError: both or none of the two are given, or one is out of range.
    """
    if (topk is None) == (ratio is None):
        raise ValueError(f"give topk or ratio, one of the two; got topk={topk}, ratio={ratio}")
    if topk is not None and (isinstance(topk, bool) or not isinstance(topk, int) or topk < 0):
        raise ValueError(f"topk must be a whole number, 0 or more, not {topk!r}")
    if ratio is not None and (isinstance(ratio, (str, bool)) or not 0 <= ratio <= 1):
        raise ValueError(f"ratio must lie between 0 and 1, not {ratio!r}")
    return topk if topk is not None else math.ceil(ratio * count - 1e-9)  # type: ignore[operator]


def _loaded(path: str | os.PathLike[str], where: str) -> Any:
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's own advice is to switch the check off
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{where} is no table that torch can load without executing code from it ({reason})") from None
