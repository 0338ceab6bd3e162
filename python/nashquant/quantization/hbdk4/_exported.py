"""What `export` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ._agree import Agreement

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False, repr=False)
class ExportedModel:
    """A model that was exported.

    Attributes:
        path: the file.
        model: what is in it, as ONNX reads it (weights kept in a second file are not loaded).
        quantizers: the names of its quantizers, in the order they run.
        agreement: how far ONNX Runtime was from the model on the example inputs; None if not compared.
    """

    path: Path
    model: onnx.ModelProto
    quantizers: tuple[str, ...]
    agreement: Agreement | None

    def __repr__(self) -> str:
        graph = self.model.graph
        takes, gives = (", ".join(map(_describe, values)) for values in (graph.input, graph.output))
        if self.agreement is None:
            agreement = "not compared with ONNX Runtime"
        else:
            name, steps = self.agreement.worst
            agreement = f"ONNX Runtime within {steps:.3g} steps (at {name!r})"
        return (
            f"ExportedModel({str(self.path)!r}: {graph.name}({takes}) -> {gives}; "
            f"{len(self.quantizers)} quantizers; {agreement})"
        )


def _describe(value: onnx.ValueInfoProto) -> str:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = ", ".join(axis.dim_param or str(axis.dim_value) for axis in tensor.shape.dim)
    return f"{value.name}: {dtype}[{shape}]"
