"""The speed of memory, met in the same rounds: a copy into a fresh buffer, and a read."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

import torch
from torch import Tensor

HUGE = 2 * 1024 * 1024
FRESH = 32 * 1024 * 1024  # malloc gives larger blocks back to the system at once, so each is new pages again
_libc = ctypes.CDLL(None)


def _ask_for_huge_pages(y: Tensor) -> None:
    start = -(-y.data_ptr() // HUGE) * HUGE
    length = (y.data_ptr() + y.nbytes - start) // HUGE * HUGE
    if length > 0:
        _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_HUGEPAGE)


def copy_of(x: Tensor) -> Callable[[], Tensor]:
    """Copies `x` into a new tensor, the way that costs least: above 32 MiB on huge pages."""
    advise = x.nbytes > FRESH and hasattr(mmap, "MADV_HUGEPAGE")

    def copy() -> Tensor:
        y = torch.empty_like(x)
        if advise:
            _ask_for_huge_pages(y)
        return y.copy_(x)

    return copy


def read_of(x: Tensor) -> Callable[[], Tensor]:
    """Reads `x` once: torch's dot product of it with itself, its fastest pass over memory."""
    flat = x.detach().reshape(-1)
    return lambda: torch.dot(flat, flat)
