"""The export itself, read from top to bottom; all that needs onnx is behind this file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import Tensor, nn

from nashquant import __version__
from ._agree import Agreement, compare, probes
from ._calls import Call, record_calls
from ._convert import capture, convert
from ._exported import ExportedModel
from ._faces import Face
from ._graph import find_calls, name_nodes, name_values, store_quantized
from ._write import check, staged, write, write_probe


@dataclass(frozen=True, eq=False)
class Built:
    """The finished graph, the fake quantize calls in it, and the tensors it was made with."""

    model: ir.Model
    calls: Mapping[ir.Node, Call]
    inputs: Mapping[str, Tensor]

    def sign(self, name: str, march: str) -> None:
        """Says in the model what it is and who made it."""
        self.model.graph.name = name
        self.model.producer_name, self.model.producer_version = "nashquant", __version__
        self.model.metadata_props["nashquant.march"] = march


def build(model: nn.Module, tensors: Sequence[Tensor], shapes: Any, faces: tuple[Face, Face]) -> Built:
    """The ONNX graph of `model`, which takes `tensors`."""
    inputs, outputs = faces
    program = convert(capture(model, tensors, shapes))
    graph = program.model.graph
    calls = find_calls(graph, record_calls(program.exported_program, tensors))
    store_quantized(program.model, calls)
    calls = {node: call for node, call in calls.items() if node.graph is graph}  # the others led nowhere
    name_values(graph, inputs.names, outputs.names)
    name_nodes(graph)
    for value, desc in zip([*graph.inputs, *graph.outputs], [*inputs.descs, *outputs.descs], strict=True):
        value.doc_string = desc or None
    return Built(program.model, calls, dict(zip(inputs.names, tensors, strict=True)))


def save(built: Built, target: Path, outputs: Sequence[Tensor], verify: bool) -> ExportedModel:
    """Writes the file, checked and compared, or nothing."""
    agreement: Agreement | None = None
    with staged(target) as file:
        write(built.model, file)
        check(file)
        if verify:
            points = probes(built.model.graph, built.calls, outputs)
            probe = write_probe(file, [point.value for point in points])
            agreement = compare(probe, points, built.inputs)
        proto = onnx.load(str(file), load_external_data=False)
    quantizers = tuple(dict.fromkeys(call.quantizer for call in built.calls.values()))
    return ExportedModel(target, proto, quantizers, agreement)
