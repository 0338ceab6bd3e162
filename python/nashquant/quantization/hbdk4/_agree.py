"""Whether ONNX Runtime computes from the file what the model computes, told in quantization steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._calls import Call


@dataclass(frozen=True)
class Agreement:
    """How far ONNX Runtime was from the prepared model on the example inputs.

    Some difference is normal. QuantizeLinear divides by the scale where the model multiplies by its
    reciprocal, and convolutions add in another order; either can carry a value that lies between two steps to
    the other one, and the layers behind carry that on. The steps of int16 are fine: there it happens more.

    Attributes:
        steps: by name, each quantizer of an activation and each output of the model: the largest difference,
            in steps of its quantizer; for an output that comes from none (high precision) in int8 steps of
            its own range, `max|y| / 127.5`.
        beyond: those that differ by more than about 1 % of their range, in the order they run.
    """

    steps: Mapping[str, float]
    beyond: tuple[str, ...]

    @classmethod
    def of(cls, points: Sequence[Probe], given: Sequence[Tensor]) -> Agreement:
        """The differences between `given` and what the model has at `points`."""
        steps: dict[str, float] = {}
        beyond = []
        for point, y in zip(points, given, strict=True):
            difference = (y.double() - point.y.detach().cpu().double()).abs() / point.step.cpu().double()
            largest = float(difference.max()) if difference.numel() else 0.0
            steps[point.name] = max(largest, steps.get(point.name, 0.0))
            if not largest <= point.allowed:
                beyond.append(point.name)
        return cls(steps, tuple(dict.fromkeys(beyond)))

    @property
    def worst(self) -> tuple[str, float]:
        """The name of what differs most, and by how many steps."""
        return max(self.steps.items(), key=lambda item: item[1])


@dataclass(frozen=True, eq=False)
class Probe:
    """A value of the ONNX graph, and what the prepared model has there.

    Attributes:
        name: how a person calls it: the quantizer or the output.
        value: its name in the graph.
        y: what the prepared model computed.
        step: what counts as one step; divides `y`.
        allowed: how many steps of difference deserve no warning.
    """

    name: str
    value: str
    y: Tensor
    step: Tensor
    allowed: float


def probes(graph: ir.Graph, calls: Mapping[ir.Node, Call], outputs: Sequence[Tensor]) -> list[Probe]:
    """What to compare: each quantizer of an activation, then each output."""
    found = []
    for node, call in calls.items():
        if not call.weight:
            step = call.grid.along(call.grid.scale, call.y.dim())
            found.append(Probe(call.quantizer, _name(node.outputs[0]), call.y, step, _allowed(call)))
    for value, y in zip(graph.outputs, outputs, strict=True):
        source = _source(value, calls)
        if source is not None and source.grid.axis is None:
            step, allowed = source.grid.scale, _allowed(source)
        elif y.is_floating_point() and y.numel():
            step, allowed = (y.detach().abs().max().float() / 127.5).clamp(min=2.0**-126), 2.0
        else:
            step, allowed = torch.tensor(1.0), 0.0
        found.append(Probe(_name(value), _name(value), y, step, allowed))
    return found


def run(file: Path, names: Sequence[str], inputs: Mapping[str, Tensor], optimized: bool = False) -> list[Tensor]:
    """What ONNX Runtime computes for the outputs called `names`: each node as it is in `file`, or `optimized`.

    Optimized with int8 left as int8: by default, ONNX Runtime makes uint8 of it on x86, and its kernels for uint8 times
    int8 saturate on CPUs without VNNI.
    """
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}
    return [torch.from_numpy(array.copy()) for array in session.run(list(names), arrays)]


def _source(value: ir.Value, calls: Mapping[ir.Node, Call]) -> Call | None:
    """The call that made what is in `value`, if that was only moved since."""
    from ._moves import MOVES  # needs onnx

    node = value.producer()
    while node is not None and node not in calls:
        moves = node.op_type in MOVES or node.op_type in ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear")
        node = node.inputs[0].producer() if moves and node.inputs[0] is not None else None
    return None if node is None else calls[node]


def _allowed(call: Call) -> float:
    return max(2.0, (call.grid.qmax - call.grid.qmin + 1) / 128)


def _name(value: ir.Value) -> str:
    assert value.name
    return value.name
