"""`export`: the prepared model as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nashquant.march import require_march
from nashquant.qdq import Forward, Slot

from ._exported import ExportedModel, Origin
from ._faces import Face, check_apart, face
from ._flat import Flat, FlatInputs, flat_outputs, with_slots
from ._place import place, require
from ._ready import check_numbers, check_ready, float_ops


def export(
    model: nn.Module,
    example_inputs: Any,
    name: str = "forward",
    input_names: str | Sequence[str] | None = None,
    output_names: str | Sequence[str] | None = None,
    input_descs: str | Sequence[str] | None = None,
    output_descs: str | Sequence[str] | None = None,
    native_pytree: bool = True,
    *,
    path: str | os.PathLike[str] | None = None,
    example_kw_inputs: Mapping[str, Any] | None = None,
    dynamic_batch: bool = False,
    dynamic_shapes: Any = None,
    verify: bool | None = None,
) -> ExportedModel:
    """Writes the prepared `model` as a QDQ ONNX file (opset 21); gives where it is and how well it agrees.

    Each fake quantize becomes `QuantizeLinear → DequantizeLinear` with the same scale; each quantized weight
    an int4, int8 or int16 initializer and its `DequantizeLinear`. Nodes and scales carry the names of the
    modules they come from. The file is checked with `onnx.checker` and compared with the model in ONNX
    Runtime; if anything fails, nothing is written. To run it there on an x86 CPU, add the session option
    `session.qdqisint8allowed=1` (`SessionOptions.add_session_config_entry`): without it, ONNX Runtime makes
    uint8 of int8, and its kernels for that saturate on CPUs without VNNI. The model, its mode and its
    states are as before, whatever happens.

    Args:
        model: what `prepare` gave, calibrated or trained; in eval mode and in the VALIDATION state.
        example_inputs: a tensor, or a tuple of the arguments of forward, which may be nested. Numbers, bools
            and None among them become constants.
        name: the name of the graph.
        input_names: one for each tensor of the inputs, in order.
        output_names: one for each tensor of the outputs, in order. What is no tensor is left out.
        input_descs: a text for each input, kept as its `doc_string`.
        output_descs: a text for each output.
        native_pytree: how inputs and outputs without a given name are called. ONNX has no nested values: True
            says where each one was (`x`, `boxes.0`, `output.scores`), False numbers them (`input_0`).
        path: the file; `<class of the model>.onnx` in the current folder by default. An older one is
            replaced.
        example_kw_inputs: arguments of forward given by keyword.
        dynamic_batch: whether the first axis of all inputs may change; the file calls it `batch`. The example inputs
            must then hold more than one sample: torch.export takes an axis of one for fixed.
        dynamic_shapes: any axes that may change, as `torch.export.export` takes them; by default none may.
        verify: run the file in ONNX Runtime and compare; by default where onnxruntime is installed.

    Raises:
        ImportError: onnx, onnxscript or onnx-ir is missing.
        TypeError: `model` is not a module; a name is not a string.
        ValueError: the model is not prepared, or lost a quantizer since; a quantizer's range is not the whole of an
            integer type; the example inputs don't run, are empty, hold NaN or have no batch that may change; something
            is bfloat16; the number of names or texts
            is wrong, or names are not unique.
        RuntimeError: no march is set; the model is not in eval mode and VALIDATION; torch can't follow its
            forward; ONNX has no word for an op.
        FileNotFoundError: the folder of `path` does not exist.

    Warns:
        CalibrationWarning: scales that were never set.
        UserWarning: ONNX Runtime can't run the file, or is further off than 1 % of a quantizer's range.
    """
    require("onnx", "onnxscript", "onnx_ir", *(["onnxruntime"] if verify else []))
    march = require_march("export")
    check_ready(model)
    target = place(f"{type(model).__name__}.onnx" if path is None else path)
    args = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    inputs = FlatInputs(model, args, example_kw_inputs or {})
    shapes = inputs.batch_shapes(dynamic_shapes) if dynamic_batch else inputs.shapes(dynamic_shapes)
    check_numbers(model, dict(zip(inputs.names, inputs.tensors, strict=True)))
    output = _run(model, inputs)
    faces = (
        face("input", inputs.names, input_names, input_descs, native_pytree),
        face("output", [name for name, _ in flat_outputs(output)], output_names, output_descs, native_pytree),
    )
    check_apart(*faces)

    from . import _build  # needs onnx

    with torch.no_grad():
        built = _build.build(Flat(model, inputs), inputs.tensors, shapes, faces)
        built.sign(name, march.value)
        if (forward := _forward(model, inputs, output, faces)) is not None:
            forward.write(built.model)
        proto, agreement = _build.save(built, target, verify)
    origin = Origin(model, inputs, built.verifier)
    return ExportedModel(target.absolute(), proto, built.quantizers, float_ops(model), agreement, origin)


def _run(model: nn.Module, inputs: FlatInputs) -> Any:
    """What the model gives on the example inputs; some of it are tensors."""
    args, kwargs = inputs.arguments(inputs.tensors)
    try:
        with torch.no_grad():
            output = model(*args, **kwargs)
    except Exception as error:
        shown = ", ".join(
            f"{name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            for name, tensor in zip(inputs.names, inputs.tensors, strict=True)
        )
        raise ValueError(f"the model does not run on example_inputs ({shown}): {error}") from error
    if not flat_outputs(output):
        raise ValueError(f"the model gives no tensor: forward returned {type(output).__name__}")
    return output


def _forward(model: nn.Module, inputs: FlatInputs, output: Any, faces: tuple[Face, Face]) -> Forward | None:
    """How the model is called; None where a class of the user's own takes nothing but tensors."""
    takes, gives = faces
    try:
        args, kwargs = inputs.arguments([*map(Slot, takes.names)])
        return Forward.of(model.forward, args, kwargs, with_slots(output, gives.names))
    except Exception:
        return None
