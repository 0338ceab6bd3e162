"""A setter that speaks for the ops a sensitivity table puts first."""

from __future__ import annotations

from nashquant.quantization.prepare.graph import Graph
from nashquant.quantization.prepare.setter import QconfigSetterBase
from nashquant.quantization.qconfig import QConfig

from .sensitivity_table import SensitivityTable, first, sensitivity_rows

__all__ = ["SensitivityQconfigSetter"]


class SensitivityQconfigSetter(QconfigSetterBase):
    """Gives qint16 to the ops whose quantization hurts most.

    Args:
        table: see `sensitivity_rows`. Rows about weights are passed over.
        qconfig: what those ops get.
        topk: how many ops.
        ratio: or which share of the table's rows, rounded up.

    Raises:
        ValueError: the table is not one, both or none of topk and ratio are given, or one is out of range;
            in `prepare`, none of the chosen names is an op of the model.
    """

    def __init__(
        self,
        table: SensitivityTable,
        qconfig: QConfig,
        topk: int | None = None,
        ratio: float | None = None,
    ) -> None:
        first(0, topk, ratio)
        names = list(dict.fromkeys(row.name for row in sensitivity_rows(table) if not row.about_weight))
        self.names = names[: first(len(names), topk, ratio)]
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
