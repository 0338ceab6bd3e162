"""Compares an exported file with the model it was made from: its outputs, and each layer by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ._agree import Agreement, Place, Point, merged
from ._calls import Call, record_calls
from ._exact import Exact
from ._grid import Grid
from ._moves import MOVES
from ._products import Product, product_of
from ._reasons import Reasons, of_layer, of_output
from ._runtime import run


@dataclass(frozen=True, eq=False)
class Layer:
    """A quantizer of an activation in the graph.

    Attributes:
        call: the call's node in the program.
        entering: the name of the value it quantizes.
        value: of the one it gives.
    """

    call: str
    entering: str
    value: str


@dataclass(frozen=True, eq=False)
class Verifier:
    """A model and the places in its file where the two can be compared.

    Attributes:
        flat: the model, called with a row of tensors.
        program: its calls, as they were exported.
        inputs: what the file calls its inputs.
        layers: the quantizers of activations.
        products: what gives an output in high precision.
        outputs: what the file calls its outputs; with the call that made what is in it, if that was only moved since.
    """

    flat: nn.Module
    program: ExportedProgram
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    products: tuple[Product, ...]
    outputs: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(
        cls,
        flat: nn.Module,
        program: ExportedProgram,
        graph: ir.Graph,
        calls: Mapping[ir.Node, Call],
    ) -> Verifier:
        """For the finished `graph`, where `calls` says which node is which call of `program`."""
        layers = [
            Layer(call.node, _name(quantize.inputs[0]), _name(node.outputs[0]))
            for node, call in calls.items()
            if not call.weight and (quantize := _producer(node)) is not None
        ]
        outputs = [(_name(value), _source(value, calls)) for value in graph.outputs]
        products = tuple(
            product
            for i, value in enumerate(graph.outputs)
            if outputs[i][1] is None and (product := product_of(value, i)) is not None
        )
        return cls(flat, program, tuple(map(_name, graph.inputs)), tuple(layers), products, tuple(outputs))

    def compare(self, file: Path, tensors: Sequence[Tensor], per_layer: bool) -> Agreement:
        """What ONNX Runtime makes of `file`, each node as it is there, beside what the model computes."""
        inputs = dict(zip(self.inputs, tensors, strict=True))
        with torch.no_grad():
            calls = record_calls(self.program, tensors)
            exact = Exact(self.program, tensors, {call.node: call.y.cpu() for call in calls.values()})
            outputs = self._outputs(tensors, calls)
            given = run(file, [point.name for point in outputs], inputs, folder=file.parent)
            places = self._layers(file, inputs, calls, outputs, exact) if per_layer else ()
            reasons = self._output_reasons(file, inputs, outputs, given, exact) if per_layer else [None] * len(given)
            left = [point.compare(given[point.name], why) for point, why in zip(outputs, reasons, strict=True)]
        return Agreement(places, tuple(left))

    def optimized(self, file: Path, tensors: Sequence[Tensor]) -> Agreement:
        """The outputs alone, with the optimizations of ONNX Runtime on."""
        inputs = dict(zip(self.inputs, tensors, strict=True))
        with torch.no_grad():
            outputs = self._outputs(tensors, record_calls(self.program, tensors))
        given = run(file, [point.name for point in outputs], inputs, folder=file.parent, optimized=True)
        return Agreement((), tuple(point.compare(given[point.name]) for point in outputs))

    def _outputs(self, tensors: Sequence[Tensor], calls: Mapping[str, Call]) -> list[Point]:
        points = []
        for (name, source), y in zip(self.outputs, self.flat(*tensors), strict=True):
            grid = None if source is None else calls[source].grid
            points.append(Point(name, y, grid if grid is not None and grid.axis is None else None))
        return points

    def _output_reasons(
        self,
        file: Path,
        inputs: Mapping[str, Tensor],
        outputs: Sequence[Point],
        given: Mapping[str, Tensor],
        exact: Exact,
    ) -> list[Callable[[Tensor], Reasons]]:
        """For each output, what it is asked for when it differs: it takes a run that gives all quantizers' values."""

        @cache
        def in_file() -> Exact:
            model = onnx.load(str(file), load_external_data=False)
            names = list(dict.fromkeys(layer.value for layer in self.layers))
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
            found = run(model.SerializeToString(), names, inputs, folder=file.parent) if names else {}
            own = {layer.call: found[layer.value] for layer in self.layers}
            return replace(exact, quantized={**exact.quantized, **own})

        def reason(i: int, unequal: Tensor) -> Reasons:
            point, (_, source) = outputs[i], self.outputs[i]
            grid = point.grid if isinstance(point.grid, Grid) else None
            unrounded = source if grid is not None else None
            nears = (exact.output(i, unrounded), in_file().output(i, unrounded))
            return of_output(unequal, grid, (point.y.detach().cpu(), given[point.name]), nears)

        return [partial(reason, i) for i in range(len(outputs))]

    def _layers(
        self,
        file: Path,
        inputs: Mapping[str, Tensor],
        calls: Mapping[str, Call],
        outputs: Sequence[Point],
        exact: Exact,
    ) -> tuple[Place, ...]:
        """Each layer by itself: it is given what the prepared model has in front of it."""
        model = onnx.load(str(file), load_external_data=False)
        known = {layer.value: calls[layer.call].y.detach().cpu().float() for layer in self.layers}
        _cut(model, known)
        feeds = {**inputs, **known}
        wanted = [layer.entering for layer in self.layers if layer.entering not in feeds]
        sums = [outputs[product.output].name for product in self.products]
        names = list(dict.fromkeys([*wanted, *map(_own, known), *sums]))
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        used = {name for node in model.graph.node for name in node.input}
        feeds = {name: tensor for name, tensor in feeds.items() if name in inputs or name in used}
        kept = [value for value in model.graph.input if value.name in feeds]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        given = run(model.SerializeToString(), names, feeds, folder=file.parent) if names else {}
        found = {**inputs, **known, **given}

        def of_quantizer(layer: Layer, unequal: Tensor) -> Reasons:
            call = calls[layer.call]
            y, entering = (call.y.cpu(), given[_own(layer.value)]), (call.x.cpu(), found[layer.entering])
            return of_layer(unequal, call.grid, y, entering, exact.entering(layer.call))

        def of_product(product: Product, name: str, unequal: Tensor) -> Reasons:
            near = exact.output(product.output)
            return of_output(unequal, None, (outputs[product.output].y.detach().cpu(), given[name]), (near, near))

        rounded = [
            Point(call.quantizer, call.y, call.grid).compare(given[_own(layer.value)], partial(of_quantizer, layer))
            for layer in self.layers
            for call in (calls[layer.call],)
        ]
        summed = [
            Point(product.layer, outputs[product.output].y, product.scale).compare(
                given[name], partial(of_product, product, name)
            )
            for product, name in zip(self.products, sums, strict=True)
        ]
        return merged([*rounded, *summed])


def _cut(model: onnx.ModelProto, values: Mapping[str, Tensor]) -> None:
    """Makes inputs of `values`; what the nodes that made them give gets another name."""
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name in values:
                node.output[i] = _own(name)
    for name in values:
        value = onnx.ValueInfoProto(name=name)
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        model.graph.input.append(value)


def _own(value: str) -> str:
    return f"{value}:own"


def _producer(dequantize: ir.Node) -> ir.Node | None:
    value = dequantize.inputs[0]
    return None if value is None else value.producer()


def _source(value: ir.Value, calls: Mapping[ir.Node, Call]) -> str | None:
    """The call that made what is in `value`, if that was only moved since."""
    node = value.producer()
    while node is not None and node not in calls:
        moves = node.op_type in MOVES or node.op_type in ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear")
        node = node.inputs[0].producer() if moves and node.inputs[0] is not None else None
    return None if node is None else calls[node].node


def _name(value: ir.Value | None) -> str:
    assert value is not None
    assert value.name
    return value.name
