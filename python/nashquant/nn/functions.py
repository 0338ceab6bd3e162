"""Functions of one number as modules, under the names that eager scripts for the vendor's tool use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = [
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Floor",
    "Reciprocal",
    "Sin",
    "Sinh",
    "Sqrt",
    "Tan",
]


class _Function(nn.Module):
    function: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        """Gives the function of each element of `x`."""
        return self.function(x)


class _Periodic(_Function):
    """`single_period` says that the input stays within one period: a hint for the chip's table, without effect here."""

    def __init__(self, single_period: bool = False) -> None:
        super().__init__()
        self.single_period = single_period


class Acos(_Function):
    """`torch.acos`."""

    function = staticmethod(torch.acos)


class Acosh(_Function):
    """`torch.acosh`."""

    function = staticmethod(torch.acosh)


class Asin(_Function):
    """`torch.asin`."""

    function = staticmethod(torch.asin)


class Asinh(_Function):
    """`torch.asinh`."""

    function = staticmethod(torch.asinh)


class Atan(_Function):
    """`torch.atan`."""

    function = staticmethod(torch.atan)


class Atanh(_Function):
    """`torch.atanh`."""

    function = staticmethod(torch.atanh)


class Ceil(_Function):
    """`torch.ceil`."""

    function = staticmethod(torch.ceil)


class Cos(_Periodic):
    """`torch.cos`."""

    function = staticmethod(torch.cos)


class Cosh(_Function):
    """`torch.cosh`."""

    function = staticmethod(torch.cosh)


class Erf(_Function):
    """`torch.erf`."""

    function = staticmethod(torch.erf)


class Exp(_Function):
    """`torch.exp`."""

    function = staticmethod(torch.exp)


class Floor(_Function):
    """`torch.floor`."""

    function = staticmethod(torch.floor)


class Reciprocal(_Function):
    """`torch.reciprocal`."""

    function = staticmethod(torch.reciprocal)


class Sin(_Periodic):
    """`torch.sin`."""

    function = staticmethod(torch.sin)


class Sinh(_Function):
    """`torch.sinh`."""

    function = staticmethod(torch.sinh)


class Sqrt(_Function):
    """`torch.sqrt`."""

    function = staticmethod(torch.sqrt)


class Tan(_Function):
    """`torch.tan`."""

    function = staticmethod(torch.tan)
