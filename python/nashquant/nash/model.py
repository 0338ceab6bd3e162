"""The integer model: a list of steps, made once, run on tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant.march import March

from ._forms import Grid
from ._step import Step
from .report import Report

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["IntegerModel", "Point"]

_DTYPES = {  # of inputs, by the names of ONNX; others are not checked
    "FLOAT": torch.float32,
    "DOUBLE": torch.float64,
    "FLOAT16": torch.float16,
    "BOOL": torch.bool,
    **{name.upper(): getattr(torch, name) for name in ("uint8", "int8", "int16", "int32", "int64")},
}
Watch = Callable[[Step, Sequence[Tensor], Sequence[Tensor]], None]


@dataclass(frozen=True)
class Point:
    """Where a quantizer left its integers.

    Attributes:
        quantizer: its name; of a foreign model, that of its QuantizeLinear.
        slot: where they lie.
        grid: what they mean.
        layer: the step they come from.
        call: which of its quantizer's calls it is, as the file says: `2/3`; empty if it does not.
    """

    quantizer: str
    slot: str
    grid: Grid
    layer: str
    call: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class IntegerModel:
    """Runs as the chip would: floats in, floats out, integers in between. Made by `convert`.

    Attributes:
        march: the chip whose arithmetic it is.
        steps: what runs, in order.
        inputs: names.
        outputs: names.
        points: where each quantizer of an activation left its integers.
        held: names of the quantizers of weights and other constants.

    It can be pickled and copied: it is then made again of its graph.
    """

    march: March
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    points: tuple[Point, ...]
    held: frozenset[str]
    _slots: tuple[str, ...]
    _graph: ir.Model

    @classmethod
    def of(cls, plan: Plan, graph: ir.Model, march: March) -> IntegerModel:
        """The model of a finished plan; each tensor is let go after the step that needs it last."""
        kept = set(plan.outputs)
        steps: list[Step] = []
        for step in reversed(plan.steps):
            last = tuple(slot for slot in dict.fromkeys((*step.inputs, *step.outputs)) if slot not in kept)
            kept.update(last)
            steps.append(replace(step, last=last))
        inputs = tuple(str(value.name) for value in plan.graph.inputs)
        outputs = tuple(str(value.name) for value in plan.graph.outputs)
        return cls(
            march,
            tuple(reversed(steps)),
            inputs,
            outputs,
            tuple(plan.points),
            frozenset(plan.held),
            tuple(plan.outputs),
            graph,
        )

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs for `inputs`, one tensor for each input of the graph; a single output by itself.

        Raises:
            TypeError: an input is no tensor, or of another dtype than the graph takes.
            ValueError: there are more or fewer inputs than the graph has.
        """
        outputs = self._run(inputs, None, keep=False)[0]
        return outputs[0] if len(outputs) == 1 else outputs

    def integers(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What each quantizer of an activation gives, by its slot (see `points`): signed integers."""
        slots = self._run(inputs, None, keep=True)[1]
        return {point.slot: slots[point.slot] for point in self.points}

    def watch(self, watch: Watch, *inputs: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Runs with `watch(step, inputs, outputs)` after each step; gives the outputs and what is in every slot."""
        return self._run(inputs, watch, keep=True)

    def overflows(self, *inputs: Tensor) -> dict[str, int]:
        """How many accumulators of each layer leave the chip's, which has 32 bits; layers without any are left out."""
        found: dict[str, int] = {}

        def count(step: Step, given: Sequence[Tensor], _: Sequence[Tensor]) -> None:
            if number := overflow(step, given, self.march):
                found[step.layer] = found.get(step.layer, 0) + number

        self._run(inputs, count, keep=False)
        return found

    @property
    def report(self) -> Report:
        """What is integer, and what runs as float and why. `print(model.report)`."""
        return Report.of(self.march, self.steps)

    def __reduce__(self) -> tuple[Callable[..., IntegerModel], tuple[bytes, March]]:
        from ._read import to_bytes  # needs onnx

        return _again, (to_bytes(self._graph), self.march)

    def __repr__(self) -> str:
        takes, gives = ", ".join(self.inputs), ", ".join(self.outputs)
        return f"IntegerModel(({takes}) -> {gives}; {self.report.summary} for {self.march.value})"

    def _run(
        self, inputs: Sequence[Tensor], watch: Watch | None, keep: bool
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"the model takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), not {len(inputs)}")
        for value, x in zip(self._graph.graph.inputs, inputs, strict=True):
            if not isinstance(x, Tensor):
                raise TypeError(f"input {value.name!r} is {type(x).__name__}, expected a torch.Tensor")
            expected = None if value.dtype is None else _DTYPES.get(value.dtype.name)
            if expected not in (None, x.dtype):
                raise TypeError(f"input {value.name!r} is {x.dtype}, but the model takes {expected}")
        slots = dict(zip(self.inputs, (x.detach() for x in inputs), strict=True))
        with torch.no_grad():
            for step in self.steps:
                given = [slots[slot] for slot in step.inputs]
                try:
                    made = step.run(*given)
                except Exception as error:
                    raise ValueError(f"{step.op} of {step.layer!r} failed: {error}") from error
                results = made if isinstance(made, tuple) else (made,)
                slots.update(zip(step.outputs, results, strict=False))
                if watch is not None:
                    watch(step, given, results)
                if not keep:
                    for slot in step.last:
                        slots.pop(slot, None)
        return tuple(slots[slot] for slot in self._slots), slots


def _again(graph: bytes, march: March) -> IntegerModel:
    import onnx

    from .convert import convert

    return convert(onnx.load_model_from_string(graph), march)


def overflow(step: Step, given: Sequence[Tensor], march: March) -> int:
    """How many accumulators of `step` leave those of the chip."""
    if step.accumulators is None:
        return 0
    acc = step.accumulators(*given)
    limit = 1 << (march.spec.arithmetic.accumulator_bits - 1)
    if acc.dtype == torch.int32 and limit >= 1 << 31:
        return 0
    return int(((acc < -limit) | (acc > limit - 1)).sum())
