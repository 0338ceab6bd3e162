"""What is done to the ONNX graph after torch made it: weights become integers, names become the model's."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes
from torch import Tensor

from ._calls import Call, module_name
from ._qdq import stored_as

_SCOPES = "pkg.torch.onnx.name_scopes"
_QUANTIZER, _MODULE = "nashquant.quantizer", "nashquant.module"


def find_calls(graph: ir.Graph, calls: Mapping[str, Call]) -> dict[ir.Node, Call]:
    """The DequantizeLinear nodes of the calls."""
    found = {}
    for node in graph:
        scopes = _scopes(node)
        if node.op_type == "DequantizeLinear" and scopes and scopes[-1] in calls:
            found[node] = calls[scopes[-1]]
    return found


def store_quantized(model: ir.Model, calls: Mapping[ir.Node, Call]) -> None:
    """Gives each quantizer initializers of its own name: scale, zero point, and the integers of a weight.

    A weight's floats, its QuantizeLinear and whatever led to it go.
    """
    known: dict[tuple[str, bytes], ir.Value] = {}
    wanted: dict[ir.Value, str] = {}

    def initializer(name: str, values: Tensor, dtype: ir.DataType) -> ir.Value:
        array = values.cpu().numpy().astype(dtype.numpy())
        key = (name, array.tobytes())
        if key not in known:
            tensor = ir.Tensor(array, name=f"{name}:{len(known)}")
            value = ir.Value(name=tensor.name, type=ir.TensorType(dtype), shape=tensor.shape, const_value=tensor)
            model.graph.register_initializer(value)
            known[key], wanted[value] = value, name
        return known[key]

    for dequantize, call in calls.items():
        quantize = dequantize.inputs[0].producer() if dequantize.inputs[0] else None
        grid, stored = call.grid, stored_as(call.grid.qmin, call.grid.qmax)
        for node in (quantize, dequantize):
            if node is None:
                continue
            if call.fixed:
                node.replace_input_with(1, initializer(f"{call.quantizer}.scale", grid.scale, ir.DataType.FLOAT))
                node.replace_input_with(2, initializer(f"{call.quantizer}.zero_point", grid.zero_point, stored))
            node.metadata_props[_QUANTIZER] = call.quantizer
            for default in ("output_dtype", "block_size", "saturate", *(["axis"] if grid.axis is None else [])):
                node.attributes.pop(default, None)
        if call.weight and call.fixed:
            name = call.parameter or f"{call.quantizer}.integers"
            dequantize.replace_input_with(0, initializer(name, grid.integers(call.y), stored))
    passes.RemoveUnusedNodesPass()(model)
    free = _Free(model.graph.initializers)
    for value, name in wanted.items():
        value.name = free(name)


def name_values(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Gives inputs and outputs their names, initializers those they have in the model; all names are different."""
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
    free = _Free([*inputs, *outputs])
    for value in others:
        value.name = free(value.metadata_props["was"].removeprefix("model."))
    for value in [*faces, *others]:
        value.metadata_props.clear()


def name_nodes(graph: ir.Graph) -> None:
    """Names each node `<module>/<operator>`; drops torch's notes, which hold the paths of this machine."""
    free = _Free(())
    for node in graph:
        module = module_name(_scopes(node)[:-1])
        quantizer = node.metadata_props.get(_QUANTIZER)
        node.name = free(f"{quantizer or module}/{node.op_type}".removeprefix("/"))
        node.metadata_props.clear()
        node.doc_string = None
        for key, name in ((_MODULE, module), (_QUANTIZER, quantizer)):
            if name:
                node.metadata_props[key] = name


def _scopes(node: ir.Node) -> list[str]:
    """The modules around a node, and last the name of the fx node it comes from."""
    return list(ast.literal_eval(node.metadata_props.get(_SCOPES, "[]")))


class _Free:
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
