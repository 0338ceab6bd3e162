"""Tables over integers, and products element by element."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from nashquant import ops
from nashquant.arithmetic import Arithmetic

DTYPES = [torch.int8, torch.int16]


def every(dtype: torch.dtype) -> torch.Tensor:
    ends = torch.iinfo(dtype)
    return torch.arange(ends.min, ends.max + 1).to(dtype)


@pytest.mark.parametrize("dtype_in", DTYPES)
@pytest.mark.parametrize("dtype_out", DTYPES)
def test_every_integer_finds_its_entry(path, dtype_in, dtype_out):
    x = every(dtype_in)
    table = torch.randint(-128, 128, (len(x),)).to(dtype_out)
    assert torch.equal(ops.lookup(x, table), table)
    square = x.flip(0).reshape(16, -1).T
    assert torch.equal(ops.lookup(square, table), table.flip(0).reshape(16, -1).T)
    assert ops.lookup(x[:0], table).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_table_holds_the_rounded_function(dtype):
    table = ops.lookup_table(torch.tanh, 1 / 64, 1 / 100, dtype, torch.int8)
    for q, entry in zip(every(dtype)[::97].tolist(), table[::97].tolist(), strict=True):
        assert entry == max(-128, min(round(math.tanh(q / 64) / (1 / 100)), 127))
    ties = ops.lookup_table(lambda x: x, 1.0, 2.0, torch.int8, torch.int8)
    assert ties[128 + 1 : 128 + 8].tolist() == [0, 1, 2, 2, 2, 3, 4]
    wild = ops.lookup_table(lambda x: torch.where(x < 0, torch.nan, torch.inf), 1.0, 1.0, dtype, torch.int16)
    assert (wild[0].item(), wild[-1].item()) == (-32768, 32767)


def test_between_the_entries_of_a_short_table_lies_a_straight_line():
    short = ops.lookup_table(torch.exp, 2**-13, 2**-9, torch.int16, torch.int16, arithmetic=Arithmetic(table_bits=8))
    knots = torch.round(torch.exp(torch.arange(-32768, 32769, 256).double() * 2**-13) / 2**-9).tolist()
    assert short.shape == (65_536,)
    for i in range(0, 65_536, 77):
        knot, part = divmod(i, 256)
        low, high = (int(min(k, 32767)) for k in knots[knot : knot + 2])
        assert short[i].item() == round(low + (high - low) * Fraction(part, 256))
    exact = ops.lookup_table(torch.exp, 2**-13, 2**-9, torch.int16, torch.int16)
    assert torch.equal(short[::256], exact[::256])
    assert not torch.equal(short, exact)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dtype_out", DTYPES)
def test_products_are_rounded_once_and_saturate(path, dtype, dtype_out):
    ends, low = torch.iinfo(dtype_out), torch.iinfo(dtype).min
    a = torch.tensor([1, 3, -1, -3, low, low, 100], dtype=dtype)
    b = torch.tensor([1, 1, 1, 1, low, -low - 1, 77], dtype=dtype)
    for factor in (0.5, 2.0, 3 / 2**16):
        found = ops.mul_saturating(a, b, factor, dtype=dtype_out)
        exact = [round(x * y * Fraction(factor)) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert found.tolist() == [max(ends.min, min(value, ends.max)) for value in exact]
        assert found.dtype == dtype_out
    assert ops.mul_saturating(a, b, 1.0).dtype == dtype


def test_what_is_wrong_is_said(path):
    x = torch.zeros(3, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"^table has shape \[255\], but must have \[256\] for torch.int8$"):
        ops.lookup(x, torch.zeros(255, dtype=torch.int8))
    with pytest.raises(TypeError, match=r"^table has dtype torch.int32, but must be torch.int8 or int16$"):
        ops.lookup(x, torch.zeros(256, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"^scale_out is 0.0, but must be positive and finite$"):
        ops.lookup_table(torch.exp, 1.0, 0.0, torch.int8, torch.int8)
    with pytest.raises(ValueError, match=r"^b has shape \[1\], but a has \[3\]$"):
        ops.mul_saturating(x, x[:1], 1.0)
    with pytest.raises(ValueError, match=r"^a factor is -1.0, but must be at least 0 and less than 2\*\*31$"):
        ops.mul_saturating(x, x, -1.0)
