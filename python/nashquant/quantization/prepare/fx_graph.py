"""The recorded calls as a table: what ran, on what, from which line. The text of fx_graph.txt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields

from .graph import Origin, Value
from .plan import Plan, show_dtypes

__all__ = ["GraphRow", "graph_rows", "graph_text"]


@dataclass(frozen=True)
class GraphRow:
    """One call between the stubs.

    Attributes:
        opcode: "call_module" or "call_function".
        name: unique; "conv(1)" is the second call of "conv".
        target: the class or function.
        args: what it reads: names of other rows, "chunk[1]" for the second of several outputs, "input" for a float
            from outside, "constant".
        kwargs: the same for tensors given by keyword, `weight=constant`.
        out: what it gives: "qint8", "torch.float32"; "(fused)" where the next call goes on in the same op.
        op: the name of the op it is a part of, where that is another: "relu" for a conv fused with it.
        place: file and line of a call of a function.
    """

    opcode: str
    name: str
    target: str
    args: str
    kwargs: str
    out: str
    op: str
    place: str


def graph_rows(plan: Plan) -> Iterable[GraphRow]:
    """The rows of a plan's graph, in the order the calls ran."""
    names: dict[int, str] = {}
    count: Counter[str] = Counter()
    for node in plan.graph.nodes:
        base = node.path if node.path != node.owner else f"{node.owner}.{node.label}".removeprefix(".")
        names[id(node)] = f"{base}({count[base]})" if count[base] else base
        count[base] += 1
        args = [_source(o.value, names) for o in node.operands if o.position[0].isdigit()]
        kwargs = [f"{o.position}={_source(o.value, names)}" for o in node.operands if not o.position[0].isdigit()]
        op, functional = plan.graph.op_of(node), node.label == "FloatFunctional"
        yield GraphRow(
            "call_module" if node.owner is None else "call_function",
            names[id(node)],
            f"{node.label}[{node.place}]" if functional else node.label,
            ", ".join(args),
            ", ".join(kwargs),
            "(fused)" if node in op.chain[:-1] else ", ".join(dict.fromkeys(_out(plan, v) for v in node.outputs)),
            op.name if op.name != node.path and len(op.chain) > 1 else "",
            "" if functional else node.place,
        )


def _source(value: Value, names: dict[int, str]) -> str:
    node = value.producer
    if node is None:
        return "constant" if value.origin is Origin.CONSTANT else "input"
    at = f"[{node.outputs.index(value)}]" if len(node.outputs) > 1 else ""
    return names[id(node)] + at


def _out(plan: Plan, value: Value) -> str:
    return show_dtypes([plan.dtype(value)]).strip("[]'")


def graph_text(rows: Sequence[GraphRow]) -> str:
    """The table as text."""
    from tabulate import tabulate

    return tabulate(map(astuple, rows), [field.name for field in fields(GraphRow)], disable_numparse=True) + "\n"
