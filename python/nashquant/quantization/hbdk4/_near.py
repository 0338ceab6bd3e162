"""A value in the real numbers with what floats may make of it, and a call on such values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True, eq=False)
class Near:
    """A value and its neighbourhood: floats compute something that is `error` away from `value` at most.

    Attributes:
        value: f64.
        error: f64, of the same shape.
    """

    value: Tensor
    error: Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """An ATen operator on arguments of which some are `Near`; `u` is half the distance from 1 to the next float."""

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    u: float

    def __call__(self, change: Callable[[Any], Any], args: tuple[Any, ...] | None = None) -> Any:
        """The op on its arguments, each tensor of floats after `change`."""
        used = self.args if args is None else args
        args, kwargs = pytree.tree_map(change, (used, dict(self.kwargs)), is_leaf=is_near)
        return self.op(*args, **kwargs)

    @property
    def name(self) -> str:
        """Of the operator, without its overload."""
        name: str = self.op.overloadpacket.__name__
        return name

    def gamma(self, n: int) -> float:
        """The relative error of a sum of n products at most: `n·u / (1 - n·u)`."""
        return n * self.u / (1 - n * self.u)


def is_near(x: Any) -> bool:
    """For pytrees: where to stop."""
    return isinstance(x, Near)


def value_of(x: Any) -> Any:
    """The value of a `Near`; anything else as it is."""
    return x.value if isinstance(x, Near) else x


def error_of(x: Any) -> Any:
    """The error of a `Near`; anything else as it is."""
    return x.error if isinstance(x, Near) else x


def size_of(x: Any) -> Any:
    """The size of a `Near`; anything else as it is."""
    return size(x.value) if isinstance(x, Near) else x


def size(y: Tensor) -> Tensor:
    """|y|, and 0 for what is no number: a score of -inf has no neighbours."""
    return y.abs().nan_to_num(nan=0.0, posinf=0.0)
