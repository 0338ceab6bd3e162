"""Einsum of one or two operands: letters put in order, one matrix product, letters put in the order that is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nashquant import ops

from ._forms import Accumulator, NotIntegerError, Target
from ._rescale import factor_onto, land
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["einsum"]


def einsum(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`acc = Σ a·b` over the letters that the result has not."""
    letters = _Letters.of(str(attribute(node, "equation")))
    grids = [plan.grid(value) for value in node.inputs]
    slots = tuple(slot for slot, _ in grids)
    zero_points = [grid.zero_point for _, grid in grids]
    scale = torch.tensor(math.prod(grid.scale for _, grid in grids), dtype=torch.float64)
    form = Accumulator(scale, axis=-1, bound=letters.terms(node.inputs) * math.prod(grid.largest for _, grid in grids))

    def accumulate(*given: Tensor) -> Tensor:
        return letters.run(given, zero_points)

    if target is None:
        return Made(accumulate, slots, (form,), accumulate)

    factor = factor_onto(target, scale)

    def run(*given: Tensor) -> Tensor:
        return land(accumulate(*given), factor, None, target, plan.arithmetic)

    return Made(run, slots, (target.grid,), accumulate)


@dataclass(frozen=True)
class _Letters:
    """The letters of the operands and of the result: `ij,jk` and `ik`."""

    operands: tuple[str, ...]
    result: str

    @classmethod
    def of(cls, equation: str) -> _Letters:
        """Those of `equation`; without an arrow, the result has in order what occurs once.

        Raises:
            NotIntegerError: it is of another kind.
        """
        left, arrow, right = equation.replace(" ", "").partition("->")
        operands = tuple(left.split(","))
        result = right if arrow else "".join(sorted(each for each in set(left) - {","} if left.count(each) == 1))
        if "." in equation or len(operands) > 2 or any(len(set(each)) < len(each) for each in (*operands, result)):
            raise NotIntegerError(f"its equation {equation!r} has dots, a letter twice in a row, or three operands")
        first, *second = operands
        if second and set(first) ^ set(second[0]) > set(result) & (set(first) ^ set(second[0])):
            raise NotIntegerError(f"its equation {equation!r} sums one operand by itself")
        return cls(operands, result)

    def terms(self, operands: Sequence[ir.Value | None]) -> float:
        """How many products are added up for an element of the result, if that is known."""
        shapes = [value.shape for value in operands if value is not None and value.shape is not None]
        if len(shapes) < len(operands):
            return math.inf
        summed = [size for letter, size in self._sizes(shapes).items() if letter not in self.result]
        return math.prod(size if isinstance(size, int) else math.inf for size in summed)

    def _sizes(self, shapes: Sequence[Iterable[Any]]) -> dict[str, Any]:
        """That of each letter; one of 1 is repeated where the other operand has more."""
        sizes: dict[str, Any] = {}
        for letters, shape in zip(self.operands, shapes, strict=True):
            for letter, size in zip(letters, shape, strict=True):
                sizes[letter] = size if sizes.get(letter, 1) == 1 else sizes[letter]
        return sizes

    def run(self, given: tuple[Tensor, ...], zero_points: list[int]) -> Tensor:
        """The accumulator, int32 or int64."""
        if len(given) == 1:
            (letters,), (x,) = self.operands, given
            over = tuple(i for i, each in enumerate(letters) if each not in self.result)
            x = x.long() - zero_points[0]
            return self._in_order(x.sum(over) if over else x, "".join(each for each in letters if each in self.result))
        (a, b), (of_a, of_b) = given, self.operands
        sizes: dict[str, int] = self._sizes([a.shape, b.shape])
        both = [each for each in of_a if each in of_b]
        batch, depth = ([each for each in both if (each in self.result) is kept] for kept in (True, False))
        rows, columns = ([each for each in one if each not in other] for one, other in ((of_a, of_b), (of_b, of_a)))

        def matrix(x: Tensor, letters: str, *groups: list[str]) -> Tensor:
            order = [each for group in groups for each in group]
            shape = [math.prod(sizes[each] for each in group) for group in groups]
            x = x.permute([letters.index(each) for each in order])
            return x.expand([sizes[each] for each in order]).reshape(shape)

        acc = ops.matmul(
            matrix(a, of_a, batch, rows, depth),
            matrix(b, of_b, batch, depth, columns),
            zero_point_a=zero_points[0],
            zero_point_b=zero_points[1],
        )
        made = [*batch, *rows, *columns]
        return self._in_order(acc.reshape([sizes[each] for each in made]), "".join(made))

    def _in_order(self, x: Tensor, letters: str) -> Tensor:
        return x.permute([letters.index(each) for each in self.result])
