"""The integer model: a list of steps, made once, run on tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nashquant.march import March
from nashquant.qdq import Forward

from ._forms import Grid
from ._inputs import check
from ._nans import Nans
from ._step import Step
from .report import Report

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["IntegerModel", "Point"]

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
        forward: how it is called.

    It can be pickled and copied: it is then made again of its graph.
    """

    march: March
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    points: tuple[Point, ...]
    held: frozenset[str]
    forward: Forward
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
            Forward.read(graph),
            tuple(plan.outputs),
            graph,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for the arguments that the model behind the file took, laid out as it gave them.

        A file that says nothing of that, as those of other tools, takes its inputs in a row, or by name, and gives a
        tuple of tensors, or a single one by itself. So does one whose tensors stand in other things than dicts, lists,
        tuples and dataclasses. A dataclass comes back as a dict, a named tuple as a tuple.

        Raises:
            TypeError: an input is no tensor, or of another dtype than the graph takes.
            ValueError: the arguments are laid out otherwise; one has another rank than the graph takes, or another size
                where that is fixed.

        Warns:
            UserWarning: NaN reached a quantizer. No integer stands for it; the least is taken.
        """
        return self.forward.results(self._warned(self.named(*args, **kwargs), keep=False)[0])

    def named(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The tensors among the arguments of a call, by the names of the inputs. Raises as a call does."""
        return self._checked(self.forward.tensors(args, kwargs))

    def by_name(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs for `inputs`, both by their names in the file. Raises and warns as a call does."""
        if missing := [name for name in self.inputs if name not in inputs]:
            raise ValueError(f"input {missing[0]!r} is missing: the model takes {', '.join(self.inputs)}")
        if unknown := [name for name in inputs if name not in self.inputs]:
            raise ValueError(f"input {unknown[0]!r} is not known: the model takes {', '.join(self.inputs)}")
        return self._warned(self._checked(inputs), keep=False)[0]

    def integers(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """What each quantizer of an activation gives, by its slot (see `points`): signed integers."""
        slots = self._warned(self.named(*args, **kwargs), keep=True)[1]
        return {point.slot: slots[point.slot] for point in self.points}

    def watch(self, watch: Watch, *args: Any, **kwargs: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Runs with `watch(step, inputs, outputs)` after each step; gives the outputs in a row, and every slot.

        It does not warn of NaN.
        """
        outputs, slots = self._run(self.named(*args, **kwargs), watch, keep=True)
        return tuple(outputs.values()), slots

    def overflows(self, *args: Any, **kwargs: Any) -> dict[str, int]:
        """How many accumulators of each layer leave the chip's, which has 32 bits; layers without any are left out."""
        found: dict[str, int] = {}

        def count(step: Step, given: Sequence[Tensor], _: Sequence[Tensor]) -> None:
            if number := overflow(step, given, self.march):
                found[step.layer] = found.get(step.layer, 0) + number

        self._run(self.named(*args, **kwargs), count, keep=False)
        return found

    @property
    def report(self) -> Report:
        """What is integer, and what runs as float and why. `print(model.report)`."""
        return Report.of(self.march, self.steps)

    def __reduce__(self) -> tuple[Callable[..., IntegerModel], tuple[bytes, March]]:
        from ._read import to_bytes  # needs onnx

        return _again, (to_bytes(self._graph), self.march)

    def __repr__(self) -> str:
        return (
            f"IntegerModel({self.forward} -> {', '.join(self.outputs)}; {self.report.summary} for {self.march.value})"
        )

    def _checked(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        check(self._graph.graph.inputs, inputs)
        return dict(inputs)

    def _warned(self, inputs: Mapping[str, Tensor], keep: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        nans = Nans()
        found = self._run(inputs, nans, keep)
        nans.warn(inputs)
        return found

    def _run(
        self, inputs: Mapping[str, Tensor], watch: Watch, keep: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        slots = {name: inputs[name].detach() for name in self.inputs}
        with torch.no_grad():
            for step in self.steps:
                given = [slots[slot] for slot in step.inputs]
                try:
                    made = step.run(*given)
                except Exception as error:
                    raise ValueError(f"{step.op} of {step.layer!r} failed: {error}") from error
                results = made if isinstance(made, tuple) else (made,)
                slots.update(zip(step.outputs, results, strict=False))
                watch(step, given, results)
                if not keep:
                    for slot in step.last:
                        slots.pop(slot, None)
        return {name: slots[slot] for name, slot in zip(self.outputs, self._slots, strict=True)}, slots


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
