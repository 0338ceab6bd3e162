"""A setter that speaks for the ops a sensitivity table puts first."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch

from nashquant.quantization.prepare.graph import Graph
from nashquant.quantization.prepare.setter import QconfigSetterBase
from nashquant.quantization.qconfig import QConfig

__all__ = ["SensitivityQconfigSetter", "SensitivityTable"]

SensitivityTable = Sequence[Sequence[Any]] | str | os.PathLike[str]


class SensitivityQconfigSetter(QconfigSetterBase):
    """Gives qint16 to the ops whose quantization hurts most.

    Args:
        table: rows `[op name, ..., sensitivity, ...]` of 3 to 7 fields, most sensitive first, as the sensitivity
            analysis saves them; or the path of a `.pt` file with such a table, loaded with `weights_only=True`.
            Where rows say "activation" or "weight", those about weights are passed over.
        qconfig: what those ops get.
        topk: how many ops.
        ratio: or which share of the table's rows, rounded up.

    Raises:
        ValueError: the table has other rows, both or none of topk and ratio are given, or one is out of range;
            in `prepare`, none of the chosen names is an op of the model.
    """

    def __init__(
        self,
        table: SensitivityTable,
        qconfig: QConfig,
        topk: int | None = None,
        ratio: float | None = None,
    ) -> None:
        if (topk is None) == (ratio is None):
            raise ValueError(f"give topk or ratio, one of the two; got topk={topk}, ratio={ratio}")
        if topk is not None and (isinstance(topk, bool) or not isinstance(topk, int) or topk < 0):
            raise ValueError(f"topk must be a whole number, 0 or more, not {topk!r}")
        if ratio is not None and (isinstance(ratio, str) or not 0 <= ratio <= 1):
            raise ValueError(f"ratio must lie between 0 and 1, not {ratio!r}")
        names = _ranked_names(table)
        count = topk if topk is not None else math.ceil(ratio * len(names) - 1e-9)  # type: ignore[operator]
        self.names = names[:count]
        self.qconfig = qconfig

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """`qconfig` for the chosen ops."""
        ops = graph.names()
        found = {ops[name]: self.qconfig for name in self.names if name in ops}
        if self.names and not found:
            listed = ", ".join(map(repr, self.names[:5]))
            raise ValueError(f"none of the {len(self.names)} sensitive ops ({listed}) is an op of this model")
        missing = [name for name in self.names if name not in ops]
        if missing:
            graph.warnings.append(f"sensitive ops that this model does not quantize: {', '.join(missing)}")
        return found


def _ranked_names(table: SensitivityTable) -> list[str]:
    where = "the sensitivity table"
    if isinstance(table, (str, os.PathLike)):
        where = f"the sensitivity table {os.fspath(table)!r}"
        try:
            table = torch.load(table, weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:  # torch's own advice is to switch the check off
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"{where} is no table that torch can load without executing code from it ({reason})"
            ) from None
    if not isinstance(table, Sequence) or isinstance(table, (str, bytes)):
        raise ValueError(f"{where} must be a list of rows, not {type(table).__name__}")
    names = []
    for number, row in enumerate(table):
        if not isinstance(row, (list, tuple)) or not 3 <= len(row) <= 7 or not isinstance(row[0], str):
            raise ValueError(f"row {number} of {where} must have 3 to 7 fields, the first an op name; it is {row!r}")
        if not any(isinstance(field, (int, float)) and not isinstance(field, bool) for field in row[1:]):
            raise ValueError(f"row {number} of {where} holds no number that could be a sensitivity: {row!r}")
        if "weight" not in row[1:]:
            names.append(row[0].partition("[")[0])
    return list(dict.fromkeys(names))
