"""The differentiable functions that quantizers and observers are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _autograd, _torch
from ._torch import mse_search_per_channel, mse_search_per_tensor, min_max_per_tensor, min_max_per_channel


def fake_quantize_per_tensor(
    x: Tensor, scale: float | Tensor, zero_point: int, qmin: int, qmax: int
) -> Tensor:
    """Temporary: replaced within the hour."""
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_tensor(x, scale, zero_point, qmin, qmax)
    scale = torch.as_tensor(scale, dtype=torch.float32, device=x.device)
    return _autograd.ReferencePerTensor.apply(x, scale.reshape(()), zero_point, qmin, qmax)[0]


def fake_quantize_per_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int
) -> Tensor:
    """Temporary: replaced within the hour."""
    if torch.compiler.is_exporting():
        return torch.ops.nashquant.fake_quantize_per_channel(x, scale, zero_point, axis, qmin, qmax)
    return _autograd.ReferencePerChannel.apply(x, scale, zero_point, axis, qmin, qmax)[0]
