"""Functions as a module, so that their output can be named, configured and quantized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FloatFunctional", "add_relu"]


def add_relu(x: Tensor, y: Tensor) -> Tensor:
    """`relu(x + y)`, as one op with one grid."""
    return torch.relu(torch.add(x, y))


class FloatFunctional(nn.Module):
    """One functional call with a name of its own, like torch's class of the same name.

    Use one instance per call: all calls of an instance share one scale.

    >>> FloatFunctional().add(torch.ones(2), torch.ones(2))
    tensor([2., 2.])
    """

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Gives `function(*args, **kwargs)`; every method below goes through here."""
        return function(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not for use.

        Raises:
            TypeError: always; call a method such as `add`.
        """
        raise TypeError("FloatFunctional is not called; call one of its methods, e.g. .add(x, y)")

    def add(self, x: Tensor, y: Tensor) -> Any:
        """`x + y`."""
        return self.run(torch.add, x, y)

    def add_scalar(self, x: Tensor, y: float) -> Any:
        """`x + y` for a number `y`."""
        return self.run(torch.add, x, y)

    def add_relu(self, x: Tensor, y: Tensor) -> Any:
        """`relu(x + y)`."""
        return self.run(add_relu, x, y)

    def sub(self, x: Tensor, y: Tensor) -> Any:
        """`x - y`."""
        return self.run(torch.sub, x, y)

    def mul(self, x: Tensor, y: Tensor) -> Any:
        """`x * y`."""
        return self.run(torch.mul, x, y)

    def mul_scalar(self, x: Tensor, y: float) -> Any:
        """`x * y` for a number `y`."""
        return self.run(torch.mul, x, y)

    def div(self, x: Tensor, y: Tensor) -> Any:
        """`x / y`."""
        return self.run(torch.div, x, y)

    def matmul(self, x: Tensor, y: Tensor) -> Any:
        """`x @ y`."""
        return self.run(torch.matmul, x, y)

    def maximum(self, x: Tensor, y: Tensor) -> Any:
        """The larger of the two, element by element."""
        return self.run(torch.maximum, x, y)

    def minimum(self, x: Tensor, y: Tensor) -> Any:
        """The smaller of the two, element by element."""
        return self.run(torch.minimum, x, y)

    def cat(self, tensors: Sequence[Tensor], dim: int = 0) -> Any:
        """The tensors one after another along `dim`."""
        return self.run(torch.cat, tensors, dim=dim)

    def stack(self, tensors: Sequence[Tensor], dim: int = 0) -> Any:
        """The tensors side by side along a new `dim`."""
        return self.run(torch.stack, tensors, dim=dim)

    def mean(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """`torch.mean(x, ...)`."""
        return self.run(torch.mean, x, *args, **kwargs)

    def sum(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """`torch.sum(x, ...)`."""
        return self.run(torch.sum, x, *args, **kwargs)
