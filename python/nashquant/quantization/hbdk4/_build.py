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

from ._agree import Agreement
from ._biases import keep_biases
from ._calls import record_calls
from ._convert import capture, convert
from ._expanded import keep_expanded
from ._faces import Face
from ._moves import keep_on_grid
from ._names import name_axes, name_nodes, name_values
from ._resizes import keep_sizes
from ._stored import find_calls, store_quantized
from ._verify import Verifier
from ._write import check, staged, write


@dataclass(frozen=True, eq=False)
class Built:
    """The finished graph, the names of the quantizers in it, the tensors it was made with, and how to compare it."""

    model: ir.Model
    quantizers: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    verifier: Verifier

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
    keep_expanded(converted, calls)
    keep_on_grid(graph, calls)
    keep_biases(converted)
    keep_sizes(converted)
    name_values(graph, inputs.names, outputs.names)
    name_nodes(graph)
    name_axes(graph, shapes)
    for value, desc in zip([*graph.inputs, *graph.outputs], [*inputs.descs, *outputs.descs], strict=True):
        value.doc_string = desc or None
    quantizers = tuple(dict.fromkeys(call.quantizer for call in calls.values()))
    named = dict(zip(inputs.names, tensors, strict=True))
    return Built(converted, quantizers, named, Verifier.of(model, program, graph, calls))


def save(built: Built, target: Path, verify: bool | None) -> tuple[onnx.ModelProto, Agreement | None]:
    """Writes the file, checked and compared, or nothing."""
    with staged(target) as file:
        write(built.model, file)
        check(file)
        agreement = _compare(built, file, verify)
        return onnx.load(str(file), load_external_data=False), agreement


def _compare(built: Built, file: Path, verify: bool | None) -> Agreement | None:
    """What ONNX Runtime makes of `file`. With `verify` None it need not be there, nor know every op."""
    if verify is False or (verify is None and importlib.util.find_spec("onnxruntime") is None):
        return None
    tensors = tuple(built.inputs.values())
    try:
        written = built.verifier.compare(file, tensors, per_layer=True)
        optimized = built.verifier.optimized(file, tensors)
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
