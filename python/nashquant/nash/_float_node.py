"""What has no integer form: one node of the graph, run in ONNX Runtime as the file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir
from torch import Tensor

from ._to_torch import to_numpy, to_torch

__all__ = ["FloatNode", "UntypedError", "outer_values"]

_TYPES = {
    **{f"tensor({dtype.name.lower()})": dtype for dtype in ir.DataType},
    "tensor(float16)": ir.DataType.FLOAT16,
}


class UntypedError(ValueError):
    """Nothing says of which type a value is."""


class FloatNode:
    """Runs one node. `constants` are known, the `dynamic` values are given at each call, in order."""

    def __init__(
        self,
        node: ir.Node,
        dynamic: Sequence[ir.Value],
        constants: Mapping[ir.Value, Tensor],
        opsets: Mapping[str, int],
    ) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        self.dtypes = [value.dtype for value in dynamic]
        self.names = [_name(value) for value in dynamic]
        fixed = [onnx.numpy_helper.from_array(to_numpy(x, v.dtype), _name(v)) for v, x in constants.items()]
        self.outputs = [value for value in node.outputs if value.name]
        graph = onnx.helper.make_graph(
            [ir.to_proto(node)],
            "node",
            [_info(value, node.op_type == "Resize") for value in dynamic],
            [onnx.ValueInfoProto(name=value.name) for value in self.outputs],
            fixed,
        )
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self.session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            op = f"{node.domain}.{node.op_type}".removeprefix(".")
            raise ValueError(
                f"{op} ({node.name!r}) has no integer form, and ONNX Runtime does not take it: {error}"
            ) from error
        for value, found in zip(self.outputs, self.session.get_outputs(), strict=True):
            of_parts = found.type.removeprefix("seq(").removesuffix(")") if found.type.startswith("seq(") else ""
            if of_parts in _TYPES:
                value.type = ir.SequenceType(ir.TensorType(_TYPES[of_parts]))
            elif value.dtype is None and found.type in _TYPES:  # of ops that ONNX's own inference does not know
                value.type = ir.TensorType(_TYPES[found.type])

    def __call__(self, *inputs: Tensor) -> tuple[Any, ...]:
        """The outputs; a sequence of tensors is a list."""
        given = zip(self.names, inputs, self.dtypes, strict=True)
        arrays = {
            name: [to_numpy(each, dtype) for each in x] if isinstance(x, list) else to_numpy(x, dtype)
            for name, x, dtype in given
        }
        results = self.session.run(None, arrays)
        return tuple([*map(to_torch, each)] if isinstance(each, list) else to_torch(each) for each in results)


def outer_values(node: ir.Node) -> list[ir.Value]:
    """What `node` reads: its inputs, and what its branches and loop bodies read from outside of them."""
    found = [value for value in node.inputs if value is not None]
    for graph in _graphs(node):
        inside = set(graph.inputs) | set(graph.initializers.values())
        for inner in graph:
            found += [value for value in outer_values(inner) if value not in inside]
            inside |= set(inner.outputs)
        found += [value for value in graph.outputs if value not in inside]
    return list(dict.fromkeys(found))


def _graphs(node: ir.Node) -> Iterable[ir.Graph]:
    for each in node.attributes.values():
        if each.type == ir.AttributeType.GRAPH:
            yield each.as_graph()
        elif each.type == ir.AttributeType.GRAPHS:
            yield from each.as_graphs()


def _info(value: ir.Value, resized: bool) -> onnx.ValueInfoProto:
    """Its type and rank; of a Resize also how many sizes there are: ONNX Runtime takes an unknown number for none."""
    if value.dtype is None:
        raise UntypedError(f"the type of {value.name!r} is unknown")
    if isinstance(value.type, ir.SequenceType):
        return onnx.helper.make_tensor_sequence_value_info(_name(value), int(value.dtype), None)
    shape: list[int | None] | None = None if value.shape is None else [None] * len(value.shape)
    if resized and value.shape is not None and len(value.shape) == 1 and isinstance(value.shape[0], int):
        shape = [value.shape[0]]
    return onnx.helper.make_tensor_value_info(_name(value), int(value.dtype), shape)


def _name(value: ir.Value) -> str:
    assert value.name
    return value.name
