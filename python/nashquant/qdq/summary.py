"""What a QDQ model consists of: its operators, what they compute in, and its grids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .grids import Grid, grids

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OpRow", "Summary", "summary"]

_PASS_ON = frozenset(
    {
        *("Add", "BatchNormalization", "Cast", "Clip", "Expand", "Flatten", "Gather", "Identity"),
        *("Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class OpRow:
    """One kind of operator.

    Attributes:
        quantized: how many of it lie between grids: all floats they read come from one, and what they give goes to one.
        high_precision: how many read from grids and give an output of the model, as a GEMM's accumulator; and what
            moves or clips that, or adds constants to it.
        floating: the others.
        dtypes: what they read, and how many times: "int8 × int8", "int16".
    """

    op_type: str
    quantized: int
    high_precision: int
    floating: int
    dtypes: Mapping[str, int]

    @property
    def total(self) -> int:
        """All of this kind."""
        return self.quantized + self.high_precision + self.floating


@dataclass(frozen=True, eq=False)
class Summary:
    """What `summary` gives.

    Attributes:
        ops: one row for each kind of operator but QuantizeLinear and DequantizeLinear, the commonest first.
        grids: each quantizer once, in the order they run; then the weights.
        floating: the names of the nodes that compute in floating point.
    """

    ops: tuple[OpRow, ...]
    grids: tuple[Grid, ...]
    floating: tuple[str, ...]

    @property
    def coverage(self) -> float:
        """The share of the nodes that lie between grids, or give a high-precision output."""
        total = sum(row.total for row in self.ops)
        return 1 - sum(row.floating for row in self.ops) / total if total else 1.0


def summary(model: ir.Model) -> Summary:
    """What `model` consists of.

    Raises:
        ValueError: it has scales for blocks.
    """
    found = grids(model.graph)
    by_value = {grid.dequantize.outputs[0]: grid for grid in found if not grid.bias}
    kinds: dict[str, Counter[str]] = {}
    dtypes: dict[str, Counter[str]] = {}
    floating = []
    above, below = _Above(), _Below()
    for node in reversed(model.graph):  # from the end, so that no question leads deep down
        for value in node.outputs:
            below(value)
    for node in model.graph:
        if node.op_type in _PAIR or (kind := _kind(node, above, below)) is None:
            continue
        kinds.setdefault(node.op_type, Counter())[kind] += 1
        read = " × ".join(by_value[value].dtype for value in node.inputs if value in by_value)
        dtypes.setdefault(node.op_type, Counter()).update([read] if read else [])
        if kind == "floating":
            floating.append(node.name or node.op_type)
    rows = [
        OpRow(name, kind["quantized"], kind["high_precision"], kind["floating"], dict(dtypes[name]))
        for name, kind in kinds.items()
    ]
    named: dict[str, Grid] = {}
    for grid in found:
        named.setdefault(grid.name, grid)
    ordered = sorted(named.values(), key=lambda grid: grid.weight)
    return Summary(tuple(sorted(rows, key=lambda row: -row.total)), tuple(ordered), tuple(floating))


def _kind(node: ir.Node, above: _Above, below: _Below) -> str | None:
    """What a node computes in; None if it computes no floats of the input (shapes, constants)."""
    reads = [above(value) for value in node.inputs if value is not None]
    if set(reads) <= {"constant"}:
        return None
    if "input" in reads:
        return "floating"
    ends = {below(value) for value in node.outputs}
    if ends <= {"grid"}:
        return "quantized"
    return "high_precision" if "mixed" not in ends and _from(node, reads) != "computed" else "floating"


def _from(node: ir.Node, reads: list[str]) -> str:
    """Where the floats come from that `node` makes: it may pass on those of one value."""
    others = [read for read in reads if read != "constant"]
    if node.op_type in _PASS_ON and len(others) == 1:
        return others[0]
    return "sum" if set(others) == {"grid"} else "computed"


class _Above:
    """Where the floats of a value come from: "grid", "sum" (of such, by one op), "computed" (by several), "input" (of
    the model) or "constant".
    """

    def __init__(self) -> None:
        self._known: dict[ir.Value, str] = {}

    def __call__(self, value: ir.Value) -> str:
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: ir.Value) -> str:
        node = value.producer()
        if node is None:
            return "constant" if value.const_value is not None else "input"
        if node.op_type == "DequantizeLinear":
            return "grid" if node.inputs[0] is not None and node.inputs[0].const_value is None else "constant"
        if node.op_type in ("Shape", "Size"):
            return "constant"
        reads = [self(each) for each in node.inputs if each is not None]
        if "input" in reads or set(reads) <= {"constant"}:
            return "input" if "input" in reads else "constant"
        return _from(node, reads)


class _Below:
    """Where a value goes: "grid" (to QuantizeLinear on every way), "output" (to an output of the model), or "mixed"."""

    def __init__(self) -> None:
        self._known: dict[ir.Value, str] = {}

    def __call__(self, value: ir.Value) -> str:
        if value not in self._known:
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: ir.Value) -> str:
        ends = {"output"} if value.is_graph_output() else set()
        for use in value.uses():
            if use.node.op_type == "QuantizeLinear":
                ends.add("grid")
            elif use.node.op_type not in ("Shape", "Size"):
                ends |= {self(each) for each in use.node.outputs}
        return ends.pop() if len(ends) == 1 else "mixed" if ends else "grid"
