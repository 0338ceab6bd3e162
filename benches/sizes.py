"""Tensors of the sizes that the floors name."""

from __future__ import annotations

import torch
from torch import Tensor

SIZES = {
    "1K": 1 << 10,
    "4K": 1 << 12,
    "16K": 1 << 14,
    "64K": 1 << 16,
    "256K": 1 << 18,
    "1M": 1 << 20,
    "4M": 1 << 22,
    "16M": 1 << 24,
    "64M": 1 << 26,
}
AT_TWO_THREADS = ("1K", "16K", "64K", "1M", "16M")  # those with floors; the sizes between run at one thread
QINT8, QINT16 = (-128, 127), (-32768, 32767)
INT8_SCALE, INT16_SCALE = 0.02, 8e-5  # of standard normal data: about 1 % is clipped

# Observers start with the range of a smaller batch and stay there, so that something is clipped, as in training: else
# our backward would have nothing to do. Not a constant of 0: that freezes our observers, which then don't look.
EARLIER, HARDLY = 0.9, 1e-9


def normal(size: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal, of that many elements. The large ones repeat 1M values: drawing 64M takes seconds."""
    n = SIZES[size]
    block = torch.randn(min(n, 1 << 20))
    return block.repeat(n // block.numel()).to(dtype)


def backward(y: Tensor, x: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    """`y` and the gradient at `x`: one way through autograd."""
    return y, torch.autograd.grad(y, x, grad_y)[0]
