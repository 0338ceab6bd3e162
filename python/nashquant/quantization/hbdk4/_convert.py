"""From a Python forward to an ONNX graph: torch.export, then torch.onnx; their errors in plain words."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ._qdq import OPSET, translations


def capture(model: nn.Module, tensors: Sequence[Tensor], dynamic_shapes: Any) -> ExportedProgram:
    """The calls of `model` as a graph, each fake quantize one node.

    Raises:
        RuntimeError: torch.export can't follow the forward, where it branches on the values of a tensor say.
    """
    try:
        with _quiet():
            # Not strict: Python runs as it is, and with it the redirection of calls in a prepared model.
            return torch.export.export(model, tuple(tensors), dynamic_shapes=dynamic_shapes, strict=False)
    except Exception as error:
        raise RuntimeError(f"torch.export could not follow the model's forward: {error}") from error


def convert(program: ExportedProgram) -> tuple[ir.Model, ExportedProgram]:
    """`program` in ONNX, a fake quantize as QuantizeLinear and DequantizeLinear; and as torch decomposed it.

    Raises:
        RuntimeError: ONNX, or torch's translation to it, has no word for an op.
    """
    try:
        with _quiet():
            result = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table=translations(),
                verbose=False,
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the outer ones are advice to the developers of torch
            cause = cause.__cause__
        raise RuntimeError(f"the model has no ONNX form: {cause}") from error
    assert result is not None
    assert result.exported_program is not None
    return result.model, result.exported_program


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch says to itself: its own deprecations, that torchvision's ops are not there."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    about_torchvision = _NotAbout("torchvision is not installed")
    registry.addFilter(about_torchvision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        registry.removeFilter(about_torchvision)


class _NotAbout(logging.Filter):
    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def filter(self, record: logging.LogRecord) -> bool:
        return self._words not in record.getMessage()
