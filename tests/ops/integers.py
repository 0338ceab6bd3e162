"""Integers to multiply, and what is asked of the results."""

from unittest import mock

import torch

from nashquant import ops


def integers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    ends = torch.iinfo(dtype)
    return torch.randint(ends.min, ends.max + 1, shape, dtype=dtype)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def reference(op, *args, **arguments):
    with mock.patch.object(ops._rust, "takes", return_value=False):
        return op(*args, **arguments)
