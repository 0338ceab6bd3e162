"""hstack, vstack, dstack and column_stack as the Concat that they are.

torch's own translation is a loop over a sequence of tensors, which no reader of QDQ takes for integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset21 as op


def _hstack(tensors: Sequence[Any]) -> Any:
    return _joined(tensors, [[0]], axis=0 if len(tensors[0].shape) < 2 else 1)


def _vstack(tensors: Sequence[Any]) -> Any:
    return _joined(tensors, [[0, 1], [0]], axis=0)


def _dstack(tensors: Sequence[Any]) -> Any:
    return _joined(tensors, [[0, 1, 2], [0, 2], [2]], axis=2)


def _column_stack(tensors: Sequence[Any]) -> Any:
    return _joined(tensors, [[0, 1], [1]], axis=1)


def _joined(tensors: Sequence[Any], added: Sequence[list[int]], axis: int) -> Any:
    """Concat along `axis`; a tensor of d dimensions has those of `added[d]` put in first, if there are any."""
    deep = (_with_axes(x, added[len(x.shape)]) if len(x.shape) < len(added) else x for x in tensors)
    return op.Concat(*deep, axis=axis)


def _with_axes(x: Any, axes: list[int]) -> Any:
    places: Any = op.Constant(value_ints=axes)
    return op.Unsqueeze(x, places)


JOINS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.hstack.default: _hstack,
    torch.ops.aten.vstack.default: _vstack,
    torch.ops.aten.dstack.default: _dstack,
    torch.ops.aten.column_stack.default: _column_stack,
}
