"""The operators that exporters see keep torch's rules for operators."""

from __future__ import annotations

import pytest
import torch

OPS = torch.ops.nashquant
X = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
SCALES, ZEROS = torch.full((5,), 0.1), torch.zeros(5, dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("operator", "grid"),
    [
        (OPS.fake_quantize_per_tensor.default, (0.1, 3, -128, 127)),
        (OPS.fake_quantize_per_tensor.tensor, (SCALES[:1], 0, -8, 7)),
        (OPS.fake_quantize_per_channel.default, (SCALES, ZEROS, 1, -8, 7)),
    ],
)
def test_opcheck_finds_nothing(operator, grid, dtype) -> None:
    for x in (X, X.transpose(0, 2), X[:0]):
        torch.library.opcheck(operator, (x.to(dtype), *grid))
