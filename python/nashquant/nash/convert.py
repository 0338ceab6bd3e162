"""`convert`: a QDQ ONNX model as an integer model."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from nashquant.march import March, get_march

from .model import IntegerModel

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from nashquant.quantization.hbdk4 import ExportedModel

__all__ = ["convert"]


def convert(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model | ExportedModel, march: March | str | None = None
) -> IntegerModel:
    """The integer model of a QDQ ONNX model: what `export` gave, a file, or a model in memory.

    Each op between DequantizeLinear and QuantizeLinear becomes one step on integers, as docs/numerics.md defines it;
    what has no integer form runs as float between the two, and `.report` says why. The model given is not changed.

    Args:
        model: opset 10 or later; also with unsigned integers, zero points, QLinearConv and QLinearMatMul.
        march: the chip whose arithmetic it is; by default the one that the file was exported for, or that is set, or
            any: all NASH marches compute alike as far as is known.

    Raises:
        ImportError: onnx, onnx-ir or onnxruntime is missing.
        TypeError: `model` is none of these.
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        ValueError: it is not an ONNX file; `march` is unknown; an op is not valid ONNX; a scale is not positive and
            finite, or 2**31 times as small as the steps it rounds.
    """
    missing = [name for name in ("onnx", "onnx_ir", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"convert needs {', '.join(missing).replace('_', '-')}: pip install nashquant[export]")

    from ._float_node import UntypedError  # these need onnx
    from ._plan import Plan
    from ._read import read, why_untyped
    from ._registry import REGISTRY

    graph = read(model)
    chip = _march(march, graph.metadata_props.get("nashquant.march"))
    try:
        plan = Plan(graph, REGISTRY, chip.spec.arithmetic)
    except UntypedError as error:
        raise ValueError(f"{error}{why_untyped(graph)}") from error
    return IntegerModel.of(plan, graph, chip)


def _march(given: March | str | None, stated: str | None) -> March:
    chosen = given if given is not None else stated if stated is not None else get_march()
    if isinstance(chosen, March):
        return chosen
    if chosen is None:
        return March.NASH_E
    names = [march.value for march in March]
    if chosen not in names:
        raise ValueError(f"march {chosen!r} is unknown; nashquant knows {', '.join(map(repr, names))}")
    return March(chosen)
