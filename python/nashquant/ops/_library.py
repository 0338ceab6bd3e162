"""Fake quantize as `torch.library` operators, so that one quantizer is one node of an exported graph.

They compute what the reference computes, on any device, and have no gradient: training goes through the
functions of `nashquant.ops`, which come here only under `torch.export`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _torch


def _per_tensor(x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int) -> Tensor:
    scale = torch.as_tensor(scale, dtype=torch.float32, device=x.device).reshape(())
    return _torch.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)[0]


def _per_channel(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    return _torch.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)[0]


def _like_x(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x)


# `torch.ops.nashquant.fake_quantize_per_tensor` is the first two: a scale is a number or a buffer of one.
_OPERATORS: dict[str, Callable[..., Tensor]] = {
    "fake_quantize_per_tensor(Tensor x, float scale, int zero_point, int qmin, int qmax)": _per_tensor,
    "fake_quantize_per_tensor.tensor(Tensor x, Tensor scale, int zero_point, int qmin, int qmax)": (_per_tensor),
    "fake_quantize_per_channel(Tensor x, Tensor scale, Tensor zero_point, int axis, int qmin, int qmax)": (
        _per_channel
    ),
}

# Importing this module again, in the same process, finds them there.
if not hasattr(torch.ops.nashquant, "fake_quantize_per_channel"):
    for _signature, _implementation in _OPERATORS.items():
        _name, _, _arguments = _signature.partition("(")
        torch.library.define(f"nashquant::{_name}", f"({_arguments} -> Tensor")
        # One implementation for every device. `CompositeImplicitAutograd` would have torch.export take the
        # node apart into round, clamp and mul.
        torch.library.impl(f"nashquant::{_name}", "CompositeExplicitAutograd", _implementation)
        torch.library.register_fake(f"nashquant::{_name}", _like_x)
