"""The export itself, read from top to bottom; all that needs onnx is behind this file."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from torch import Tensor, nn

from nashquant import __version__

from ._agree import Agreement, probes, run
from ._calls import Call, record_calls
from ._convert import capture, convert
from ._exported import ExportedModel
from ._faces import Face
from ._moves import keep_on_grid
from ._names import name_axes, name_nodes, name_values
from ._stored import find_calls, store_quantized
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


def build(model: nn.Module, tensors: Sequence[Tensor], shapes: Sequence[Any], faces: tuple[Face, Face]) -> Built:
    """The ONNX graph of `model`, which takes `tensors`."""
    inputs, outputs = faces
    converted, program = convert(capture(model, tensors, (tuple(shapes),)))
    graph = converted.graph
    calls = find_calls(graph, record_calls(program, tensors))
    store_quantized(converted, calls)
    calls = {node: call for node, call in calls.items() if node.graph is graph}  # the others led nowhere
    keep_on_grid(graph, calls)
    name_values(graph, inputs.names, outputs.names)
    name_nodes(graph)
    name_axes(graph, shapes)
    for value, desc in zip([*graph.inputs, *graph.outputs], [*inputs.descs, *outputs.descs], strict=True):
        value.doc_string = desc or None
    return Built(converted, calls, dict(zip(inputs.names, tensors, strict=True)))


def save(built: Built, target: Path, outputs: Sequence[Tensor], verify: bool | None) -> ExportedModel:
    """Writes the file, checked and compared, or nothing."""
    with staged(target) as file:
        write(built.model, file)
        check(file)
        agreement = _compare(built, file, outputs, verify)
        proto = onnx.load(str(file), load_external_data=False)
    quantizers = tuple(dict.fromkeys(call.quantizer for call in built.calls.values()))
    return ExportedModel(target, proto, quantizers, agreement)


def _compare(built: Built, file: Path, outputs: Sequence[Tensor], verify: bool | None) -> Agreement | None:
    """What ONNX Runtime makes of `file`. With `verify` None it need not be there, nor know every op."""
    if verify is False or (verify is None and importlib.util.find_spec("onnxruntime") is None):
        return None
    points = probes(built.model.graph, built.calls, outputs)
    faces = points[-len(outputs) :]
    probe = write_probe(file, [point.value for point in points])
    try:
        written = Agreement.of(points, run(probe, [point.value for point in points], built.inputs))
        optimized = Agreement.of(faces, run(file, [point.value for point in faces], built.inputs, optimized=True))
    except Exception as error:
        message = f"ONNX Runtime does not run the exported model: {error}"
        if verify:
            raise RuntimeError(message) from error
        warnings.warn(f"{message}; it was not compared with the prepared model", stacklevel=4)
        return None
    for agreement, how in ((written, ""), (optimized, ", with its optimizations on,")):
        if agreement.beyond:
            name, number = agreement.beyond[0], len(agreement.beyond)
            warnings.warn(
                f"ONNX Runtime{how} and the prepared model part at {name!r}, by {agreement.steps[name]:.1f} steps, "
                f"on the example inputs ({number} of {len(agreement.steps)} places compared differ by more than "
                "1 % of their range)",
                stacklevel=4,
            )
            break
    return written
