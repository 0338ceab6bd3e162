"""The integers and scales of a model as a state dict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["integers"]

_SHAPES = ("INT64", "BOOL", "STRING")  # what only says how to reshape, slice or pad


def integers(model: ir.Model) -> dict[str, Tensor]:
    """Each weight as the integers it is stored as, each scale and zero point, and what stays in floating point.

    Names are those of the file: `conv.weight` (int8), `conv.weight_fake_quant.scale`, `conv.bias`. int4 takes a byte
    each, since torch has no type for it.
    """
    found = {}
    for name, value in model.graph.initializers.items():
        if value.const_value is None or value.const_value.dtype.name in _SHAPES:
            continue
        array = value.const_value.numpy()
        if value.const_value.dtype.name in ("INT4", "UINT4"):
            array = array.astype(np.int8 if value.const_value.dtype.name == "INT4" else np.uint8)
        found[name] = torch.from_numpy(np.array(array))
    return found
