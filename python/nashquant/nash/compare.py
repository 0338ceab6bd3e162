"""`compare`: the integer model beside the prepared model it comes from, quantizer by quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nashquant.quantization.fake_quantize import FakeQuantize

from ._forms import Grid
from ._nans import Nans
from ._step import Step
from .model import IntegerModel, Point, overflow

__all__ = ["Comparison", "LayerComparison", "compare"]


@dataclass(frozen=True)
class LayerComparison:
    """One quantizer on all the data.

    Attributes:
        layer: the quantizer's module.
        dtype: of its integers.
        count: how many integers were compared.
        equal: the share of equal ones, 0 to 1.
        largest: the largest difference, in steps.
        saturated: the share of the integer model's that lie at an end of the grid.
        overflows: accumulators of this layer that left the chip's 32 bits.
    """

    layer: str
    dtype: str
    count: int
    equal: float
    largest: int
    saturated: float
    overflows: int


@dataclass(frozen=True)
class Comparison:
    """How far the integer model is from the prepared one. `print` it, or take `to_dict()`.

    Attributes:
        layers: one for each quantizer that both have, in the order they run.
        overflows: by layer, accumulators that left the chip's 32 bits, also of layers without a quantizer.
        outputs: for each output, the largest difference between the two models.
        top1: the share of rows whose largest score is at the same place, of the first output `[N, classes]`; or None.
        unmatched: quantizers that only one of the two models has, calls more often than the other, or on other shapes.
        nans: by layer, NaN that was quantized: no integer stands for it, both models take the least.
    """

    layers: tuple[LayerComparison, ...]
    overflows: dict[str, int]
    outputs: tuple[float, ...]
    top1: float | None
    unmatched: tuple[str, ...]
    nans: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        from tabulate import tabulate

        headers = ["layer", "dtype", "integers", "equal", "largest difference", "saturated", "overflows"]
        cells = [
            (
                each.layer,
                each.dtype,
                each.count,
                f"{each.equal:.3%}",
                f"{each.largest} step{'s' if each.largest != 1 else ''}",
                f"{each.saturated:.3%}",
                each.overflows,
            )
            for each in self.layers
        ]
        lines = [tabulate(cells, headers, tablefmt="psql", disable_numparse=True)]
        lines.append(f"largest difference of the outputs: {', '.join(f'{each:.4g}' for each in self.outputs)}")
        if self.top1 is not None:
            lines.append(f"the largest score is at the same place in {self.top1:.2%} of the rows")
        if self.overflows:
            counts = ", ".join(f"{layer} {number}" for layer, number in self.overflows.items())
            lines.append(f"accumulators that left the chip's 32 bits: {counts}")
        if self.nans:
            counts = ", ".join(f"{layer} {number}" for layer, number in self.nans.items())
            lines.append(f"NaN that was quantized, for which there is no integer: {counts}")
        if self.unmatched:
            lines.append(f"not compared: {', '.join(self.unmatched)}")
        return "\n".join(lines)


class _Sums:
    def __init__(self) -> None:
        self.count = self.equal = self.largest = self.saturated = 0

    def add(self, ours: Tensor, theirs: Tensor, grid: Grid) -> None:
        difference = (ours.long() - theirs).abs()
        self.count += difference.numel()
        self.equal += int((difference == 0).sum())
        self.largest = max(self.largest, int(difference.max()) if difference.numel() else 0)
        self.saturated += int(((ours == grid.low) | (ours == grid.high)).sum())


def compare(prepared: nn.Module, integer: IntegerModel, data: Iterable[Any] | Tensor) -> Comparison:
    """Runs both models on `data` and compares the integers behind each quantizer.

    A difference of one step is normal: the prepared model sums in float, and rounds `x · (1 / scale)`.

    Args:
        prepared: the model that was exported, in the VALIDATION state.
        integer: what `convert` made of the export.
        data: batches, each a tensor, a tuple of the arguments of forward, or a dict: the first argument where forward
            takes a dict there, else (or where its keys are those of arguments) the arguments by name. A tensor or dict
            is one batch.

    Raises:
        TypeError: `integer` is no integer model, or `prepared` no module.
        ValueError: `data` is empty, or laid out or shaped otherwise than the example inputs of the export; no quantizer
            of the integer model is one of `prepared`, or their outputs have other shapes.
        RuntimeError: `prepared` is not in eval mode and VALIDATION; its mode and states are never changed.
    """
    if not isinstance(integer, IntegerModel) or not isinstance(prepared, nn.Module):
        given = f"{type(prepared).__name__} and {type(integer).__name__}"
        raise TypeError(f"compare takes the prepared model, then the integer model, not {given}")
    quantizers = {name: m for name, m in prepared.named_modules() if isinstance(m, FakeQuantize)}
    points = [point for point in integer.points if point.quantizer in quantizers]
    if not points:
        raise ValueError("the integer model has no quantizer of the prepared model; is it the export of another one?")
    _check_mode(prepared, quantizers)
    named = integer.held | {point.quantizer for point in points}
    sums: dict[Point, _Sums] = {}
    overflows: dict[str, int] = {}
    outputs: list[float] = []
    rows = same = 0
    unmatched = [f"{name} (prepared only)" for name in sorted(set(quantizers) - named)]
    nans = Nans()
    for batch in [data] if isinstance(data, (Tensor, Mapping)) else data:
        args, kwargs = integer.forward.batch(batch)
        integer.named(*args, **kwargs)  # what is wrong with them is told here, not by the prepared model
        with torch.no_grad(), _recorded(quantizers) as seen:
            wanted = _tensors(prepared(*args, **kwargs))

        def count(step: Step, given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
            nans(step, given, made)
            overflows[step.layer] = overflows.get(step.layer, 0) + overflow(step, given, integer.march)

        found, slots = integer.watch(count, *args, **kwargs)
        _check_outputs(wanted, found)
        for point, (turn, turns) in zip(points, _turns(points), strict=True):
            calls, ours = seen[point.quantizer], slots[point.slot]
            if turns != len(calls):
                unmatched.append(
                    f"{point.quantizer} ({len(calls)} calls in the prepared model, {turns} in the integer one)"
                )
                continue
            theirs = calls[turn]
            if theirs.shape != ours.shape:
                shapes = f"{list(theirs.shape)} in the prepared model, {list(ours.shape)} in the integer one"
                unmatched.append(f"{point.quantizer} ({shapes})")
                continue
            scale = quantizers[point.quantizer].scale.double()
            steps = torch.round(theirs.double() / scale).long()
            sums.setdefault(point, _Sums()).add(ours, steps, point.grid)
        differences = [_largest_difference(a, b) for a, b in zip(found, wanted, strict=False)]
        outputs = [max(pair) for pair in zip(differences, outputs or differences, strict=True)]
        if found and found[0].dim() == 2 and found[0].is_floating_point():
            rows += found[0].shape[0]
            same += int((found[0].argmax(1) == wanted[0].argmax(1)).sum())
    if not outputs:
        raise ValueError("data is empty: nothing was compared")
    layers = tuple(
        LayerComparison(
            point.quantizer.removesuffix(".activation_post_process"),
            str(point.grid),
            each.count,
            each.equal / max(each.count, 1),
            each.largest,
            each.saturated / max(each.count, 1),
            overflows.get(point.layer, 0),
        )
        for point, each in sums.items()
    )
    kept = {layer: number for layer, number in overflows.items() if number}
    return Comparison(
        layers, kept, tuple(outputs), same / rows if rows else None, tuple(dict.fromkeys(unmatched)), nans.found
    )


def _check_outputs(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> None:
    """Nothing, if both models give the same number of outputs of the same shapes."""
    theirs, ours = ([tuple(y.shape) for y in each] for each in (wanted, found))
    if theirs != ours:
        raise ValueError(
            f"the prepared model gives outputs of the shapes {theirs}, the integer model {ours}: is it the export of "
            "another one?"
        )


def _turns(points: Sequence[Point]) -> list[tuple[int, int]]:
    """For each point which call of its quantizer it is, from 0, and of how many; in order, where the file says none.

    The calls of constants, as of a state that begins as zeros, are no points, but calls all the same.
    """
    found: list[tuple[int, int]] = []
    totals, so_far = Counter(point.quantizer for point in points), Counter[str]()
    for point in points:
        turn, _, turns = point.call.partition("/")
        found.append((int(turn) - 1, int(turns)) if turns else (so_far[point.quantizer], totals[point.quantizer]))
        so_far[point.quantizer] += 1
    return found


def _check_mode(prepared: nn.Module, quantizers: dict[str, FakeQuantize]) -> None:
    """Nothing, if `prepared` computes as it was exported."""
    inside = {id(part) for quantizer in quantizers.values() for part in quantizer.modules()}
    training = [name for name, module in prepared.named_modules() if module.training and id(module) not in inside]
    if training:
        where = training[0] or "the model itself"
        raise RuntimeError(f"compare needs eval mode, but in training mode is {where!r}: call eval() on the model")
    moving = [name for name, m in quantizers.items() if bool(m.observer_enabled) or not bool(m.fake_quant_enabled)]
    if moving:
        raise RuntimeError(
            f"compare needs the states of export, but {moving[0]!r} observes or is switched off: "
            "call set_fake_quantize(model, FakeQuantState.VALIDATION)"
        )


@contextmanager
def _recorded(quantizers: dict[str, FakeQuantize]) -> Iterator[dict[str, list[Tensor]]]:
    """What each quantizer gives, in the order of its calls."""
    seen: dict[str, list[Tensor]] = {name: [] for name in quantizers}
    handles = []
    for name, module in quantizers.items():

        def look(_: nn.Module, __: Any, y: Tensor, name: str = name) -> None:
            seen[name].append(y.detach().clone())

        def borrowed(x: Tensor, name: str = name, module: FakeQuantize = module) -> Tensor:
            y = type(module).requantize(module, x)
            seen[name].append(y.detach().clone())
            return y

        handles.append(module.register_forward_hook(look))
        module.requantize = borrowed  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for module in quantizers.values():
            del module.requantize


def _tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    if is_dataclass(result) and not isinstance(result, type):
        result = [getattr(result, each.name) for each in fields(result)]
    if isinstance(result, Mapping):
        result = result.values()
    nested = isinstance(result, Iterable) and not isinstance(result, (str, bytes))
    return [tensor for each in result for tensor in _tensors(each)] if nested else []


def _largest_difference(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max()) if a.numel() and a.shape == b.shape else 0.0
