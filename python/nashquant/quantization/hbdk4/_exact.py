"""What stands in front of a quantizer if nothing is rounded between it and the quantizers before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from ._floats import apply
from ._near import Near
from ._qdq import FAKE_QUANTIZE


@dataclass(frozen=True, eq=False)
class Exact:
    """A program on some inputs, in f64 from one quantizer to the next.

    Attributes:
        program: its calls.
        tensors: its inputs.
        quantized: what each fake quantize gives, by the name of its node. What is computed starts there.
    """

    program: ExportedProgram
    tensors: Sequence[Tensor]
    quantized: Mapping[str, Tensor]

    def entering(self, call: str) -> Near | None:
        """What the fake quantize `call` is given; None if an op on the way has no such value."""
        (node,) = (node for node in self.program.graph.nodes if node.name == call)
        return self._near(node.all_input_nodes[0], None)

    def output(self, index: int, unrounded: str | None = None) -> Near | None:
        """What output `index` holds, and the fake quantize `unrounded` leaves as it came; None as above."""
        specs = self.program.graph_signature.output_specs
        places = [i for i, spec in enumerate(specs) if spec.kind is OutputKind.USER_OUTPUT]
        return self._near(self.program.graph.output_node().args[0][places[index]], unrounded)

    def _near(self, node: torch.fx.Node, unrounded: str | None) -> Near | None:
        signature, state = self.program.graph_signature, self.program.state_dict
        named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        held = {name: state[key] if key in state else self.program.constants[key] for name, key in named.items()}
        for name, key in signature.inputs_to_lifted_tensor_constants.items():
            held[name] = self.program.constants[key]
        held.update(zip(signature.user_inputs, self.tensors, strict=True))
        found: dict[torch.fx.Node, Any] = {}

        def of(node: torch.fx.Node) -> Any:
            if node not in found:
                found[node] = compute(node)
            return found[node]

        def compute(node: torch.fx.Node) -> Any:
            if node.op == "placeholder":
                return _known(held[node.name])
            if node.target in FAKE_QUANTIZE and node.name != unrounded:
                return _known(self.quantized[node.name].to(_dtype(node)))
            if node.target in FAKE_QUANTIZE:
                return of(node.all_input_nodes[0])
            args = torch.fx.node.map_arg(node.args, of)
            kwargs = torch.fx.node.map_arg(node.kwargs, of)
            return apply(node.target, args, kwargs, torch.finfo(_dtype(node)).eps / 2)

        try:
            with torch.no_grad():
                y = of(node)
        except (RuntimeError, TypeError, ValueError):  # an op that f64 does not know: no reason is given
            return None
        return y if isinstance(y, Near) else Near(y.double(), torch.zeros(y.shape, dtype=torch.float64))


def _known(x: Any) -> Any:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    x = x.detach().cpu().double()
    return Near(x, torch.zeros_like(x))


def _dtype(node: torch.fx.Node) -> torch.dtype:
    """The floats a node computes in."""
    value = node.meta.get("val")
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    floats = isinstance(value, Tensor) and value.is_floating_point()
    return value.dtype if floats else torch.float32  # type: ignore[union-attr]
