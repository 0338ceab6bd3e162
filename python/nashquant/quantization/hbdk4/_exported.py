"""What `export` gives back."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._agree import Agreement
from ._flat import FlatInputs
from ._place import place, require
from ._ready import check_ready

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from ._verify import Verifier


@dataclass(frozen=True, eq=False)
class Origin:
    """The prepared model, the example inputs it was exported with, and where the two can be compared."""

    model: nn.Module
    inputs: FlatInputs
    verifier: Verifier


@dataclass(frozen=True, eq=False, repr=False)
class ExportedModel:
    """A model that was exported: run it, compare it, save it elsewhere.

    Attributes:
        path: the file, absolute: another current folder later does not matter.
        model: what is in it, as ONNX reads it (weights kept in a second file are not loaded).
        quantizers: the names of its quantizers, in the order they run.
        float_ops: the ops between the stubs that stay in floating point, as `prepare` reported them.
        agreement: how far ONNX Runtime was from the model on the example inputs; None if not compared.
    """

    path: Path
    model: onnx.ModelProto
    quantizers: tuple[str, ...]
    float_ops: tuple[str, ...]
    agreement: Agreement | None
    _origin: Origin = field(repr=False)

    def run(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """What ONNX Runtime computes from the file, each node as it is there: a tensor for each output.

        Args:
            args: the arguments of forward, laid out like the example inputs.
            kwargs: those given by keyword.

        Raises:
            ValueError: they are laid out otherwise; a tensor has another dtype or shape than the file takes.

        Warns:
            UserWarning: an input holds NaN; says how many.
        """
        from ._runtime import run

        tensors = self._tensors(args, kwargs)
        self._warn_of_nan(tensors)
        names = [value.name for value in self.model.graph.output]
        inputs = dict(zip(self._origin.verifier.inputs, tensors, strict=True))
        given = run(self.path, names, inputs, folder=self.path.parent)
        return [given[name] for name in names]

    def verify(
        self, data: Any = None, per_layer: bool = False, *, kw_data: Mapping[str, Any] | None = None
    ) -> Agreement:
        """How far ONNX Runtime is from the prepared model, as that is now: on all outputs, and on each layer if asked.

        Each layer is then given what the prepared model has in front of it, so that what differs is its own doing.
        `print` the result for a table with reasons. A model that was trained on since the export differs.

        Args:
            data: other inputs than the example ones, laid out like those; or many of them, as a data loader gives them.
            per_layer: whether to compare each layer too.
            kw_data: arguments of forward given by keyword.

        Raises:
            TypeError: `per_layer` is no bool.
            ValueError: `data` is laid out otherwise, has other shapes, or holds nothing.
            RuntimeError: the model is no longer in eval mode and VALIDATION.

        Warns:
            UserWarning: an input holds NaN; says how many.
        """
        if not isinstance(per_layer, bool):
            raise TypeError(
                f"per_layer is {type(per_layer).__name__}, expected a bool: several inputs are a tuple, verify((a, b))"
            )
        check_ready(self._origin.model)
        one = data is None or isinstance(data, (Tensor, tuple, list, Mapping))
        agreements = []
        for each in [data] if one else data:
            tensors = self._batch(each, kw_data or {})
            self._warn_of_nan(tensors)
            agreements.append(self._origin.verifier.compare(self.path, tensors, per_layer))
        if not agreements:
            raise ValueError("the data to compare on holds no batch")
        return sum(agreements[1:], agreements[0])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file again, to `path`; weights that lie in a file beside it go along.

        Raises:
            FileNotFoundError: the folder of `path` does not exist.
        """
        import onnx_ir as ir

        from ._write import staged, write

        with staged(place(path)) as file:
            write(ir.load(self.path), file)
        return Path(path)

    def save_plain(self, path: str | os.PathLike[str]) -> Path:
        """Writes the model without quantizers, in floats that are on their grids: what encodings and quant_config
        speak of, and what tools take that bring quantizers of their own.
        """
        from nashquant import qdq

        from ._write import staged, write

        with staged(place(path)) as file:
            write(qdq.plain(self._ir()).model, file)
        return Path(path)

    def save_encodings(self, path: str | os.PathLike[str], version: str = "2.0.0") -> Path:
        """Writes the grids of the tensors of `save_plain` as AIMET's encodings JSON, "2.0.0" or "1.0.0"."""
        from nashquant import qdq

        return self._json(qdq.encodings(qdq.plain(self._ir()), version), path)

    def save_quant_config(self, path: str | os.PathLike[str]) -> Path:
        """Writes which node of `save_plain` computes in which integers, as the vendor's ONNX front end takes it."""
        from nashquant import qdq

        return self._json(qdq.quant_config(self._ir()), path)

    def save_integers(self, path: str | os.PathLike[str]) -> Path:
        """Writes the integer weights, scales and zero points: `.safetensors`, or what `torch.load` reads (`.pt`).

        Raises:
            ImportError: safetensors is missing.
        """
        from nashquant import qdq

        target = place(path)
        if target.suffix == ".safetensors":
            require("safetensors")
            from safetensors.torch import save_file

            save_file(qdq.integers(self._ir()), target, metadata={"format": "pt"})
        else:
            torch.save(qdq.integers(self._ir()), target)
        return target

    def draw(self, path: str | os.PathLike[str]) -> Path:
        """Draws the graph with its dtypes and scales, as `.svg` or `.png`.

        Raises:
            ImportError: matplotlib is missing.
            ValueError: another suffix.
        """
        from nashquant import qdq

        return qdq.draw(self._ir(), place(path))

    def _ir(self) -> ir.Model:
        from nashquant import qdq

        return qdq.read(self.path)

    def _json(self, content: Any, path: str | os.PathLike[str]) -> Path:
        target = place(path)
        target.write_text(json.dumps(content, indent=2) + "\n")
        return target

    def __repr__(self) -> str:
        graph = self.model.graph
        takes, gives = (", ".join(map(_describe, values)) for values in (graph.input, graph.output))
        floats = f"in floating point: {', '.join(self.float_ops)}; " if self.float_ops else ""
        if self.agreement is None:
            agreement = "not compared with ONNX Runtime"
        else:
            name, steps = self.agreement.worst
            agreement = f"ONNX Runtime within {steps:.3g} steps (at {name!r})"
        return (
            f"ExportedModel({self.path.name!r}: {graph.name}({takes}) -> {gives}; "
            f"{len(self.quantizers)} quantizers; {floats}{agreement})"
        )

    def _batch(self, data: Any, kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        if data is None:
            return self._origin.inputs.tensors
        return self._tensors(tuple(data) if isinstance(data, (tuple, list)) else (data,), kwargs)

    def _tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        tensors = self._origin.inputs.like(args, kwargs)
        for value, tensor, example in zip(self.model.graph.input, tensors, self._origin.inputs.tensors, strict=True):
            axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            fits = len(axes) == tensor.dim() and all(
                isinstance(axis, str) or axis == size for axis, size in zip(axes, tensor.shape, strict=True)
            )
            if not fits or tensor.dtype != example.dtype:
                raise ValueError(
                    f"input {value.name!r} is {_dtype(tensor)}{list(tensor.shape)}, but the file takes "
                    f"{_dtype(example)}[{', '.join(map(str, axes))}]"
                )
        return tensors

    def _warn_of_nan(self, tensors: Sequence[Tensor]) -> None:
        """To be called by what the user calls."""
        for value, tensor in zip(self.model.graph.input, tensors, strict=True):
            if tensor.is_floating_point() and (number := int(tensor.isnan().sum())):
                warnings.warn(
                    f"input {value.name!r} holds {number} NaN, for which there is no integer: the model takes "
                    "the least, ONNX does not say what",
                    stacklevel=3,
                )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _describe(value: onnx.ValueInfoProto) -> str:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    shape = ", ".join(axis.dim_param or str(axis.dim_value) for axis in tensor.shape.dim)
    return f"{value.name}: {dtype}[{shape}]"
