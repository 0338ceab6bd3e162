"""Why ONNX Runtime is on another step than the prepared model: counted, from what is measured of each element."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._grid import Grid
from ._near import Near

# x / s errs by u of itself, x · (1 / s) by 2u + u², where u = 2⁻²⁴: the two roundings of f32, a little above.
_QUOTIENT = 2.001 * 2.0**-24


@dataclass(frozen=True)
class Reasons:
    """What made elements unequal.

    Attributes:
        divided: QuantizeLinear alone, which divides by the scale where the model multiplies by its reciprocal: the
            model would round what the file has in front of it to its own step.
        added: what is in front of it are floats that are not the same, of sums in another order say. Each is as near to
            the exact value as floats must be, and that lies where they round to different steps.
        rounded: the last layer in front of an output does one of these two.
        carried: what the file has in front of it is not what the model has, and the file makes of it what it should.
        unexplained: none of these.
        from_tie: how far the exact values of the first two are from the middle between two steps at most, in steps.
        bound: by how many steps floats may err there at most, in any order of their sums.
    """

    divided: int = 0
    added: int = 0
    rounded: int = 0
    carried: int = 0
    unexplained: int = 0
    from_tie: float = 0.0
    bound: float = 0.0

    def __add__(self, other: Reasons) -> Reasons:
        return Reasons(
            self.divided + other.divided,
            self.added + other.added,
            self.rounded + other.rounded,
            self.carried + other.carried,
            self.unexplained + other.unexplained,
            max(self.from_tie, other.from_tie),
            max(self.bound, other.bound),
        )

    def __str__(self) -> str:
        words = {
            "divided, not multiplied": self.divided,
            "sums in another order": self.added,
            "rounded by its layer": self.rounded,
            "carried on": self.carried,
            "unexplained": self.unexplained,
        }
        return ", ".join(f"{count:,} {word}" for word, count in words.items() if count)


def of_layer(
    unequal: Tensor, grid: Grid, y: tuple[Tensor, Tensor], entering: tuple[Tensor, Tensor], exact: Near | None
) -> Reasons:
    """Of a quantizer that has the same in front of it.

    Args:
        unequal: which elements.
        grid: what is rounded to.
        y: what the model gives, and what the file does: on the grid.
        entering: what was rounded, here and there.
        exact: what that is in the real numbers; None if it is not known.
    """
    if exact is None:
        return Reasons(unexplained=int(unequal.sum()))
    scale, steps = _steps(grid, unequal, exact)
    value, error = exact.value[unequal], exact.error[unequal]
    apart, err = torch.zeros_like(value), torch.zeros_like(value)
    for each, given in zip(y, entering, strict=True):
        apart = torch.maximum(apart, _apart(grid, each, steps, unequal))
        err = torch.maximum(err, (given.double()[unequal] - value).abs())
    explained = (err <= error) & (apart <= err / scale + _QUOTIENT * steps.abs())
    divided = explained & (grid.fake_quantize(entering[1]).double() == y[0].double())[unequal]
    return Reasons(
        divided=int(divided.sum()),
        added=int((explained & ~divided).sum()),
        unexplained=int((~explained).sum()),
        from_tie=_largest(apart[explained]),
        bound=_largest((error / scale)[explained]),
    )


def of_output(
    unequal: Tensor, grid: Grid | None, y: tuple[Tensor, Tensor], exact: tuple[Near | None, Near | None]
) -> Reasons:
    """Of what leaves the model, or of sums that nothing rounds.

    Args:
        unequal: which elements.
        grid: what was rounded to; None for floats.
        y: what the model gives, and what the file does.
        exact: what that is in the real numbers, before it was rounded: made of what the model's last quantizers give,
            and of what the file's do.
    """
    model, file = exact
    if model is None or file is None:
        return Reasons(unexplained=int(unequal.sum()))
    explained = torch.ones(int(unequal.sum()), dtype=torch.bool)
    for each, near in zip(y, (model, file), strict=True):
        error = near.error[unequal]
        if grid is None:
            explained &= (each.double()[unequal] - near.value[unequal]).abs() <= error
        else:
            scale, steps = _steps(grid, unequal, near)
            explained &= _apart(grid, each, steps, unequal) <= error / scale + _QUOTIENT * steps.abs()
    carried = explained & (model.value != file.value)[unequal]
    own, others = (
        int((explained & ~carried).sum()),
        {"carried": int(carried.sum()), "unexplained": int((~explained).sum())},
    )
    return Reasons(added=own, **others) if grid is None else Reasons(rounded=own, **others)


def _steps(grid: Grid, where: Tensor, exact: Near) -> tuple[Tensor, Tensor]:
    """The scale of each element, and how many steps it is in the real numbers, inside the ends of the grid."""
    scale = grid.along(grid.scale, where.dim()).double().expand(where.shape)[where]
    zero_point = grid.along(grid.zero_point, where.dim()).expand(where.shape)[where]
    return scale, (exact.value[where] / scale).clamp(grid.qmin - zero_point, grid.qmax - zero_point)


def _apart(grid: Grid, y: Tensor, steps: Tensor, where: Tensor) -> Tensor:
    """How far `steps` lie outside of what rounds to `y`."""
    rounded = grid.integers(y) - grid.along(grid.zero_point, y.dim())
    return (steps - rounded[where]).abs() - 0.5


def _largest(x: Tensor) -> float:
    return float(x.max()) if x.numel() else 0.0
