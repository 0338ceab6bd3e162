"""Names in the ONNX graph: those of the model and of its user, in place of torch's."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from ._calls import module_name

_SCOPES = "pkg.torch.onnx.name_scopes"
QUANTIZER, _MODULE = "nashquant.quantizer", "nashquant.module"
CALL = "nashquant.call"  # `2/3`: the second of three calls of the quantizer


def name_values(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Gives inputs and outputs their names, initializers those of the model; no two are the same."""
    faces = [*graph.inputs, *graph.outputs]
    others = [
        value
        for value in [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
        if value not in faces
    ]
    # First out of the way: one value may get the name another one still has.
    for i, value in enumerate([*faces, *others]):
        value.name, value.metadata_props["was"] = f":{i}", value.name or ""
    for value, name in zip(faces, [*inputs, *outputs], strict=True):
        value.name = name
    free = Free([*inputs, *outputs])
    for value in others:
        value.name = free(value.metadata_props["was"].removeprefix("model."))
    for value in [*faces, *others]:
        value.metadata_props.clear()


def name_nodes(graph: ir.Graph) -> None:
    """Names each node `<module>/<operator>`; drops torch's notes, which hold the paths of this machine."""
    free = Free(())
    for node in graph:
        module = module_name(scopes(node)[:-1])
        quantizer, call = (node.metadata_props.get(key) for key in (QUANTIZER, CALL))
        node.name = free(f"{quantizer or module}/{node.op_type}".removeprefix("/"))
        node.metadata_props.clear()
        node.doc_string = None
        for key, name in ((_MODULE, module), (QUANTIZER, quantizer), (CALL, call)):
            if name:
                node.metadata_props[key] = name


def name_axes(graph: ir.Graph, dynamic_shapes: Sequence[Any]) -> None:
    """Calls the axes that may change as the `torch.export.Dim` given for them; torch has called them `s27`."""
    given: dict[str, str] = {}
    for value, axes in zip(graph.inputs, dynamic_shapes, strict=True):
        named = axes.items() if isinstance(axes, Mapping) else enumerate(axes or ())
        for axis, dim in named:
            name = dim if isinstance(dim, str) else getattr(dim, "__name__", None)
            symbol = value.shape[axis] if value.shape is not None else None
            if name and isinstance(symbol, ir.SymbolicDim) and symbol.value:
                given.setdefault(symbol.value, name)
    for value in [*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)]:
        if value.shape is not None:
            value.shape = ir.Shape([_named(dim, given) for dim in value.shape])


def _named(dim: int | ir.SymbolicDim, given: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    # A size that is computed from others is a formula: `2*s27`.
    return re.sub(r"\w+", lambda found: given.get(found[0], found[0]), dim.value) if dim.value else None


def scopes(node: ir.Node) -> list[str]:
    """The modules around a node, and last the name of the fx node it comes from."""
    return list(ast.literal_eval(node.metadata_props.get(_SCOPES, "[]")))


class Free:
    """Hands out names, with a number after those that are taken."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)
        self._count: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        free = name
        while free in self._taken:
            self._count[name] += 1
            free = f"{name}_{self._count[name]}"
        self._taken.add(free)
        return free
