"""Switches for `model.apply(...)`."""

from __future__ import annotations

from torch import nn

from nashquant.compat.torch_ao.namesakes import is_or_is_namesake_of

from .base import FakeQuantizeBase

__all__ = ["disable_fake_quant", "disable_observer", "enable_fake_quant", "enable_observer"]


def disable_fake_quant(mod: nn.Module) -> None:
    """Lets everything pass as it is, if `mod` is a fake quantizer, ours or torch.ao's."""
    if is_or_is_namesake_of(mod, FakeQuantizeBase):
        mod.disable_fake_quant()  # type: ignore[operator]


def enable_fake_quant(mod: nn.Module) -> None:
    """Rounds what comes to the grid, if `mod` is a fake quantizer."""
    if is_or_is_namesake_of(mod, FakeQuantizeBase):
        mod.enable_fake_quant()  # type: ignore[operator]


def disable_observer(mod: nn.Module) -> None:
    """Keeps the scale as it is, if `mod` is a fake quantizer."""
    if is_or_is_namesake_of(mod, FakeQuantizeBase):
        mod.disable_observer()  # type: ignore[operator]


def enable_observer(mod: nn.Module) -> None:
    """Lets the observer look at what comes, if `mod` is a fake quantizer."""
    if is_or_is_namesake_of(mod, FakeQuantizeBase):
        mod.enable_observer()  # type: ignore[operator]
