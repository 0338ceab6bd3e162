"""The fake quantize calls of an exported program: where each is, and what it gives on the example inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.utils._python_dispatch import TorchDispatchMode

from ._grid import Grid
from ._qdq import FAKE_QUANTIZE, PER_CHANNEL


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a fake quantize, which is one node of the program.

    Attributes:
        node: the name of that node.
        quantizer: the name of the FakeQuantize that owns the scale; without one, of the module around.
        parameter: the name of what it quantizes, if that is a weight or buffer as it is.
        weight: what it quantizes depends on weights and other constants only.
        fixed: its scale and zero point do.
        grid: what it rounds to.
        x: what it was given.
        y: what it gave, fake-quantized values in f32 or f64.
        turn: which of its quantizer's calls it is, from 1.
        turns: how many there are.
    """

    node: str
    quantizer: str
    parameter: str | None
    weight: bool
    fixed: bool
    grid: Grid
    x: Tensor
    y: Tensor
    turn: int = 1
    turns: int = 1


def record_calls(program: ExportedProgram, tensors: Sequence[Tensor]) -> dict[str, Call]:
    """Runs `program` once; the calls in it, by the names of their nodes."""
    recorder = _Recorder()
    with recorder:
        program.module(check_guards=False)(*tensors)
    signature = program.graph_signature
    parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constant = _constant_nodes(program)
    nodes = [node for node in program.graph.nodes if node.target in FAKE_QUANTIZE]
    calls = {}
    turns: Counter[str] = Counter()
    for node, (grid, entering, y) in zip(nodes, recorder.seen, strict=True):
        x, *rest = node.all_input_nodes
        scale = _named(rest[0].name, parameters) if rest else None
        quantizer = scale.rpartition(".")[0] if scale else _module(node) or node.name
        turns[quantizer] += 1
        calls[node.name] = Call(
            node=node.name,
            quantizer=quantizer,
            parameter=_named(x.name, parameters),
            weight=x in constant,
            fixed=all(each in constant for each in rest),
            grid=grid,
            x=entering,
            y=y,
            turn=turns[quantizer],
        )
    return {name: replace(call, turns=turns[call.quantizer]) for name, call in calls.items()}


def module_name(stack: Sequence[str]) -> str:
    """The innermost of some modules as the user calls it: `conv` for `model.conv@1`, its second call."""
    innermost = stack[-1] if stack else ""
    return innermost.split("@")[0].removeprefix("model").removeprefix(".")


def _named(placeholder: str, parameters: Mapping[str, str]) -> str | None:
    return module_name([parameters[placeholder]]) if placeholder in parameters else None


def _module(node: torch.fx.Node) -> str:
    return module_name([name for name, _ in node.meta.get("nn_module_stack", {}).values()])


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at each fake quantize as it happens."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[Grid, Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in FAKE_QUANTIZE:
            return func(*args, **(kwargs or {}))
        x, scale, zero_point, *axis, qmin, qmax = args
        # In f16 a step of int16 is lost, and with it the integer that y stands for.
        y = func(x if x.dtype == torch.float64 else x.float(), *args[1:])
        shape = (-1,) if func is PER_CHANNEL else ()
        grid = Grid(
            scale=torch.as_tensor(scale, dtype=torch.float32).detach().reshape(shape),
            zero_point=torch.as_tensor(zero_point, dtype=torch.int64).reshape(shape),
            axis=axis[0] % x.dim() if axis else None,
            qmin=qmin,
            qmax=qmax,
        )
        self.seen.append((grid, x.detach(), y.detach()))
        return y.to(x.dtype)


def _constant_nodes(program: ExportedProgram) -> set[torch.fx.Node]:
    """The nodes whose value is the same for every input of the model."""
    inputs = set(program.graph_signature.user_inputs)
    constant: set[torch.fx.Node] = set()
    for node in program.graph.nodes:
        if node.op == "placeholder":
            fixed = node.name not in inputs
        else:
            random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
            fixed = not random and all(each in constant for each in node.all_input_nodes)
        if fixed:
            constant.add(node)
    return constant
