"""What products with a packed weight share: all that does not depend on activations."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import _check, _rust, _rust_integer, _torch_integer
from ._finish import Finish
from ._packed_weight import PackedWeight, accumulator


class Prepared:
    """A packed weight, what is added to its sums, and what becomes of them; copies of everything that could change.

    Nothing is ready for the kernels where the weight `is_transposed`: its parts are.
    """

    def __init__(
        self,
        weight: PackedWeight,
        bias: Tensor | None,
        zero_point_x: int,
        finish: Finish | None,
        is_transposed: bool = False,
    ) -> None:
        if not isinstance(weight, PackedWeight):
            raise TypeError(f"weight is a {type(weight).__name__}, but must be a PackedWeight")
        if weight.is_transposed != is_transposed:
            how = "PackedWeight.transposed" if is_transposed else "PackedWeight"
            raise ValueError(f"weight was packed for another product, but must be made by {how}")
        n = weight.weight.shape[0]
        _check.zero_point("zero_point_x", zero_point_x, weight.dtype)
        _check.bias(bias, n)
        if finish is not None:
            _check.factor_per_output(finish.factor, n)
        self.weight, self.zero_point_x = weight, zero_point_x
        self.bias, self.finish = None if bias is None else bias.detach().clone(), finish and finish.copied()
        bound = weight.bound(weight.dtype, zero_point_x)
        self.sums = accumulator(bound)
        self.dtype = finish.output.dtype if finish else accumulator(bound + _furthest(bias))
        ready = not is_transposed and _rust.takes(weight.weight) and weight.runs_in_rust
        self.core = _rust_integer.linear(weight.core(), zero_point_x, bias, finish) if ready else None
        if not ready:  # the kernels would have refused these
            _check.numbers(bias, None if finish is None else finish.factor)

    def runs_in_rust(self, x: Tensor) -> bool:
        """Can a kernel multiply `x` now?"""
        return self.core is not None and _rust.takes(x)

    def finished(self, sums: Tensor, axis: int) -> Tensor:
        """What the kernels make of sums, by the reference."""
        return _torch_integer.finished(sums, self.bias, axis, self.finish, self.dtype)

    def spelled(self, name: str) -> str:
        """Of an object of that name."""
        return f"{name}({list(self.weight.weight.shape)}, {self.weight.dtype} to {self.dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Prepared, (self.weight, self.bias, self.zero_point_x, self.finish, self.weight.is_transposed)


def _furthest(bias: Tensor | None) -> int:
    if bias is None or not bias.numel():
        return 0
    return max(abs(int(end)) for end in bias.aminmax())
