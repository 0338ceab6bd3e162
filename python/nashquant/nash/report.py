"""What of a model is integer, and what runs as float and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nashquant.march import March

from ._step import Place, Step

__all__ = ["Report", "ReportRow"]


@dataclass(frozen=True)
class ReportRow:
    """One step of the integer model.

    Attributes:
        layer: the module or node it comes from.
        op: the ONNX ops it stands for.
        place: what it computes on: "integer", "move", "float", ...
        dtype: of the grid it lands on; "" if it made none.
        scale: of that grid.
        reason: of a step that runs as float: why.
    """

    layer: str
    op: str
    place: str
    dtype: str
    scale: float | None
    reason: str


@dataclass(frozen=True)
class Report:
    """All steps, and how many of the ops are integer. `print` it, or take `to_dict()`.

    Attributes:
        march: the chip.
        rows: the steps, in order; constants and shapes left out.
    """

    march: str
    rows: tuple[ReportRow, ...]

    @classmethod
    def of(cls, march: March, steps: Sequence[Step]) -> Report:
        """The report of `steps`."""
        return cls(march.value, tuple(_row(step) for step in steps if step.place is not Place.SHAPE))

    @property
    def floats(self) -> tuple[ReportRow, ...]:
        """The steps that run as float between the first quantizer and the last."""
        return tuple(row for row in self.rows if row.place == Place.FLOAT.value)

    @property
    def in_front(self) -> tuple[ReportRow, ...]:
        """The float steps that read no quantized value: a mask that is made of an input, say."""
        return tuple(row for row in self.rows if row.place == Place.FRONT.value)

    @property
    def behind(self) -> tuple[ReportRow, ...]:
        """The float steps of which nothing quantized is made: what decodes the outputs, say."""
        return tuple(row for row in self.rows if row.place == Place.BEHIND.value)

    @property
    def coverage(self) -> float:
        """The share of ops on integers, of those between the first quantizer and the last; 1.0 where there are none."""
        integer = sum(row.place in (Place.INTEGER.value, Place.MOVE.value) for row in self.rows)
        total = integer + len(self.floats)
        return integer / total if total else 1.0

    @property
    def summary(self) -> str:
        """In one line."""
        floats = len(self.floats)
        told = f"{self.coverage:.1%} integer, {floats or 'no'} float step{'s' if floats != 1 else ''}"
        outside = ((self.in_front, "in front"), (self.behind, "behind"))
        if not (counts := [f"{len(rows)} {where}" for rows, where in outside if rows]):
            return told
        return f"{told} between the quantizers; not counted, as float: {', '.join(counts)}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"march": self.march, "coverage": self.coverage, "rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        from tabulate import tabulate

        cells = [
            (row.layer, row.op, row.place, row.dtype, "" if row.scale is None else f"{row.scale:.7g}", row.reason)
            for row in self.rows
        ]
        headers = ["layer", "op", "computes on", "dtype", "scale", "why float"]
        table = tabulate(cells, headers, tablefmt="psql", disable_numparse=True)
        return f"integer model for {self.march}: {self.summary}\n{table}"


def _row(step: Step) -> ReportRow:
    grid = None if step.target is None else step.target.grid
    return ReportRow(
        step.layer,
        step.op,
        step.place.value,
        "" if grid is None else str(grid),
        None if grid is None else grid.scale,
        step.reason,
    )
