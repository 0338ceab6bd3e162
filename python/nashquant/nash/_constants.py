"""What of a graph is the same at every call: initializers, and what is computed from them alone."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
import torch
from torch import Tensor

from ._float_node import FloatNode, outer_values
from ._forms import ScaleError, Weight, along
from ._moves import MOVES
from ._to_torch import attribute, to_torch
from ._windows import integers

__all__ = ["Constants"]

_RANDOM = frozenset({"RandomNormal", "RandomUniform", "Multinomial", "Bernoulli"})


class Constants:
    """The constants of a graph, computed when asked for."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._known: dict[ir.Value, Tensor | None] = {}

    def get(self, value: ir.Value | None) -> Tensor | None:
        """The values; None if they change from call to call."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None if value.const_value is None else to_torch(value.const_value.numpy())
            if value.const_value is None:
                self._compute(value)
        return self._known[value]

    def weight(self, value: ir.Value) -> Weight | None:
        """The integers that a DequantizeLinear makes `value` of, if all is constant; also those moved since."""
        node = value.producer()
        if node is not None and node.op_type in MOVES and node.inputs[0] is not None:
            return self._moved(value, node, node.inputs[0])
        if node is None or node.op_type != "DequantizeLinear" or attribute(node, "block_size", 0):
            return None
        q, scale = self.get(node.inputs[0]), self.get(node.inputs[1])
        zero = self.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if q is None or scale is None or q.is_floating_point() or not bool(((scale >= 0) & scale.isfinite()).all()):
            return None
        axis, shape = None, []
        if scale.numel() > 1:
            axis = int(str(attribute(node, "axis", 1)))
            if not -q.dim() <= axis < q.dim() or q.shape[axis] != scale.numel() or scale.dim() != 1:
                raise ScaleError(f"{value.name!r} is {list(q.shape)}, but has {scale.numel()} scales on axis {axis}")
            axis %= q.dim()
            shape = [1] * q.dim()
            shape[axis] = -1
        if zero is not None and zero.numel() not in (1, scale.numel()):
            raise ScaleError(f"{value.name!r} has {scale.numel()} scales, but {zero.numel()} zero points")
        centered = q.long() if zero is None else q.long() - zero.long().reshape(shape)
        return Weight(_narrowest(centered), scale.double().reshape(() if axis is None else (-1,)), axis)

    def _moved(self, value: ir.Value, node: ir.Node, source: ir.Value) -> Weight | None:
        """What `node` moved; where there are many scales, a Transpose alone keeps each with its integers."""
        weight, real = self.weight(source), self.get(value)
        if weight is None or real is None:
            return None
        axis = weight.axis
        if axis is not None:
            if node.op_type != "Transpose":
                return None
            axis = integers(node, "perm", range(real.dim() - 1, -1, -1)).index(axis)
        steps = real.double() / (weight.scale if axis is None else along(weight.scale, axis, real))
        return Weight(_narrowest(torch.round(steps).long()), weight.scale, axis)

    def _compute(self, value: ir.Value) -> None:
        node = value.producer()
        if node is None or node.op_type in _RANDOM:
            return
        if node.op_type == "DequantizeLinear" and (weight := self.weight(value)) is not None:
            self._known[value] = weight.real().float()
            return
        read = {each: self.get(each) for each in outer_values(node)}
        constants = {each: tensor for each, tensor in read.items() if tensor is not None}
        if len(constants) == len(read) and (read or node.op_type == "Constant"):
            results = FloatNode(node, [], constants, self._opsets)()
            self._known.update(zip((output for output in node.outputs if output.name), results, strict=True))


def _narrowest(q: Tensor) -> Tensor:
    for dtype in (torch.int8, torch.int16, torch.int32):
        ends = torch.iinfo(dtype)
        if not q.numel() or (int(q.min()) >= ends.min and int(q.max()) <= ends.max):
            return q.to(dtype)
    return q
