"""Setters that speak for every op: a default, and rules that look at the graph."""

from __future__ import annotations

from collections.abc import Sequence

from nashquant.dtype import qint16
from nashquant.quantization.prepare.graph import Graph
from nashquant.quantization.prepare.setter import QconfigSetterBase
from nashquant.quantization.qconfig import QConfig

__all__ = ["GridInt16Template", "HighPrecisionOutputTemplate", "Template", "TemplateQconfigSetter"]


class HighPrecisionOutputTemplate:
    """Leaves a GEMM that feeds only DeQuantStubs in the accumulator's precision."""

    def qconfigs(self, graph: Graph, default: QConfig) -> dict[str, QConfig]:
        """The outputs that can be high precision; a warning about those that can't."""
        found = {}
        kinds = graph.march.spec.high_precision_kinds
        for op in graph.ops:
            if op.kind in kinds and graph.feeds_only_dequant(op):
                found[op.name] = default.replace(output=None)
        for name in graph.low_precision_outputs(found):
            graph.warnings.append(
                f"the output of {name!r} leaves the chip without high precision: only a conv, linear or matmul whose "
                "output goes directly to a DeQuantStub and nowhere else keeps its accumulator's precision"
            )
        return found


class GridInt16Template:
    """Gives qint16 to what computes the grid of a grid_sample, back to the first GEMM or QuantStub."""

    def qconfigs(self, graph: Graph, default: QConfig) -> dict[str, QConfig]:
        """`default` with a qint16 output, for those ops."""
        if default.output is None:
            return {}
        wide = default.replace(output=default.output.replace(dtype=qint16))
        return {op.name: wide for grid in graph.sampling_grids() for op in graph.back_from(grid)}


Template = HighPrecisionOutputTemplate | GridInt16Template


class TemplateQconfigSetter(QconfigSetterBase):
    """Every op gets `default_qconfig`, except where a template says otherwise; the first template wins.

    Args:
        default_qconfig: None: only the templates speak, with weights left to later setters.
        templates: instances or classes; a single template may stand in the place of `default_qconfig`.
    """

    def __init__(
        self,
        default_qconfig: QConfig | Template | type[Template] | None = None,
        templates: Sequence[Template | type[Template]] = (),
    ) -> None:
        if default_qconfig is not None and not isinstance(default_qconfig, QConfig):
            templates, default_qconfig = (default_qconfig, *templates), None
        self.default_qconfig = default_qconfig
        self.templates = tuple(t() if isinstance(t, type) else t for t in templates)

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """The default, overlaid by the templates."""
        default = self.default_qconfig
        found = {} if default is None else {op.name: default for op in graph.ops if op.makes_grid}
        for template in reversed(self.templates):
            found |= template.qconfigs(graph, default or QConfig())
        return found

    def __repr__(self) -> str:
        names = ", ".join(type(template).__name__ for template in self.templates)
        return f"TemplateQconfigSetter({self.default_qconfig!r}, [{names}])"
