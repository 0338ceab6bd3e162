from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nashquant import _core, ops

from .integers import integers, reference, same

DTYPES = [torch.int8, torch.int16]
FACTORS = [0.5, 1.0, 0.7, 1.3, 1e-3, 3e-7, 0.0, 2.0**30, 1 - 2.0**-40]
LANES = 64  # int8 in the widest vector


def test_accumulators_round_half_to_even_and_saturate(path):
    acc = torch.tensor([1, 3, 5, -1, -3, 2, 253, 255, 2**31 - 1, -(2**31)], dtype=torch.int32)
    found = ops.requantize(acc, 0.5, torch.int8)
    assert (found.tolist(), found.dtype) == ([0, 2, 2, 0, -2, 1, 126, 127, 127, -128], torch.int8)
    acc = torch.tensor([65533, 65535, -65535, -65537, 2**31 - 1, -(2**31)], dtype=torch.int32)
    found = ops.requantize(acc, 0.5, torch.int16)
    assert (found.tolist(), found.dtype) == ([32766, 32767, -32768, -32768, 32767, -32768], torch.int16)


def test_sums_round_half_to_even_and_saturate(path):
    for dtype, low, high in ((torch.int8, -128, 127), (torch.int16, -32768, 32767)):
        a = torch.tensor([1, 3, 5, -1, -3, high, low, high, low], dtype=dtype)
        b = torch.tensor([0, 0, 0, 0, 0, high, low, low, high], dtype=dtype)
        found = ops.add_saturating(a, b, 0.5, 1.5)
        expected = [0, 2, 2, 0, -2, high, low, round(high / 2 + low * 1.5), round(low / 2 + high * 1.5)]
        assert found.tolist() == [max(low, min(value, high)) for value in expected]
        assert found.dtype == dtype


def test_a_sum_is_rounded_once(path):
    one = torch.ones(1, dtype=torch.int8)
    assert ops.add_saturating(one, one, 0.5, 0.5).item() == 1  # each by itself would be rounded to 0


def test_the_least_bit_of_a_factor_breaks_a_tie(path):
    one = torch.tensor([1, -1], dtype=torch.int32)
    assert ops.requantize(one, 0.5 + 2.0**-31, torch.int8).tolist() == [1, -1]
    assert ops.requantize(one, 0.5 + 2.0**-33, torch.int8).tolist() == [0, 0]  # beyond 31 bits
    a = torch.tensor([1, -1], dtype=torch.int16)
    assert ops.add_saturating(a, a, 0.5, 2.0**-31).tolist() == [1, -1]
    assert ops.add_saturating(a, a, 0.5, 2.0**-33).tolist() == [0, 0]
    assert ops.add_saturating(a, a, 1.5, 2.0**-30).tolist() == [2, -2]


def test_factors_at_the_ends_of_their_range(path):
    acc = torch.tensor([2**31 - 1, -(2**31), 1, 0], dtype=torch.int32)
    for factor, expected in ((2.0**-33 * 0.999, [0] * 4), (2.0**31 - 1, [127, -128, 127, 0])):
        assert ops.requantize(acc, factor, torch.int8).tolist() == expected
    assert ops.requantize(acc, 2.0**-31, torch.int8).tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length_gives_the_references_bits(dtype):
    for n in range(4 * LANES + 2):
        acc, a, b = integers(torch.int32, n), integers(dtype, n), integers(dtype, n)
        assert same(ops.requantize(acc, 3e-8, dtype), reference(ops.requantize, acc, 3e-8, dtype))
        assert same(ops.add_saturating(a, b, 0.7, 0.4), reference(ops.add_saturating, a, b, 0.7, 0.4))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_threads_gives_the_references_bits(dtype, threads):
    torch.set_num_threads(threads)
    acc, a, b = integers(torch.int32, 100_003), integers(dtype, 100_003), integers(dtype, 100_003)
    for factor in FACTORS:
        assert same(ops.requantize(acc, factor, dtype), reference(ops.requantize, acc, factor, dtype))
        for other in FACTORS:
            assert same(ops.add_saturating(a, b, factor, other), reference(ops.add_saturating, a, b, factor, other))


@given(
    acc=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40),
    factor=st.floats(0, 2.0**31, exclude_max=True),
    other=st.floats(0, 4),
    dtype=st.sampled_from(DTYPES),
)
def test_kernel_and_reference_agree_on_anything(acc, factor, other, dtype):
    acc = torch.tensor(acc, dtype=torch.int32)
    factor = min(factor, 2.0**31 - 1)
    a, b = acc.to(dtype), (acc >> 16).to(dtype)
    assert same(ops.requantize(acc, factor, dtype), reference(ops.requantize, acc, factor, dtype))
    assert same(ops.add_saturating(a, b, factor, other), reference(ops.add_saturating, a, b, factor, other))


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**15), 2**15 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(0, 2**31 - 1),
)
def test_the_reference_equals_fractions(acc, a, multiplier, other):
    from fractions import Fraction

    def saturated(value: Fraction) -> int:
        return max(-(2**15), min(round(value), 2**15 - 1))

    shift = 31 + (31 - multiplier.bit_length())  # as conversion finds it
    factor = math.ldexp(multiplier, -31)
    found = reference(ops.requantize, torch.tensor([acc], dtype=torch.int32), factor, torch.int16)
    assert found.item() == saturated(acc * Fraction(multiplier, 2**31))
    other = min(other, multiplier)
    on_shift = Fraction(round(Fraction(other, 2**31) * 2**shift), 2**shift)
    b = max(-(2**15), min(acc >> 15, 2**15 - 1))
    pair = torch.tensor([a], dtype=torch.int16), torch.tensor([b], dtype=torch.int16)
    found = reference(ops.add_saturating, *pair, factor, math.ldexp(other, -31))
    assert found.item() == saturated(a * Fraction(multiplier, 2**31) + b * on_shift)


def test_strides_are_those_of_torchs_operators(path):
    a, b = integers(torch.int8, 2, 3, 4, 5), integers(torch.int8, 2, 3, 4, 5)
    last = a.contiguous(memory_format=torch.channels_last)
    expected = reference(ops.add_saturating, a, b, 0.6, 0.9)
    for one, other in ((last, b), (a, b.contiguous(memory_format=torch.channels_last)), (last, last), (a, b)):
        found = ops.add_saturating(one, other, 0.6, 0.9)
        assert found.stride() == one.stride()
        assert torch.equal(found, reference(ops.add_saturating, one, other, 0.6, 0.9))
    assert torch.equal(ops.add_saturating(last, b, 0.6, 0.9), expected)
    gaps, repeats = a[..., ::2], b[:, :1, :, :3].expand(2, 3, 4, 3)
    assert torch.equal(ops.add_saturating(gaps, repeats, 0.6, 0.9), expected_of(gaps, repeats))
    assert torch.equal(ops.add_saturating(repeats, gaps, 0.9, 0.6), expected_of(gaps, repeats))
    acc = integers(torch.int32, 2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    found = ops.requantize(acc, 1e-8, torch.int16)
    assert found.stride() == acc.stride()
    assert torch.equal(ops.requantize(acc[:, 1:], 1e-8, torch.int16), found[:, 1:])


def expected_of(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return reference(ops.add_saturating, a.contiguous(), b.contiguous(), 0.6, 0.9)


def test_slices_that_start_anywhere_are_right():
    a, b = integers(torch.int16, 300), integers(torch.int16, 300)
    acc = integers(torch.int32, 300)
    for i in range(1, 40):
        assert torch.equal(
            ops.add_saturating(a[i:], b[:-i], 0.8, 0.1), reference(ops.add_saturating, a[i:], b[:-i], 0.8, 0.1)
        )
        assert torch.equal(
            ops.requantize(acc[i:], 1e-7, torch.int8), reference(ops.requantize, acc[i:], 1e-7, torch.int8)
        )


def test_one_number_and_none(path):
    one = torch.tensor(7, dtype=torch.int8)
    assert ops.add_saturating(one, one, 1.0, 1.0).item() == 14
    assert ops.add_saturating(one, one, 1.0, 1.0).shape == ()
    assert ops.requantize(torch.tensor(-7, dtype=torch.int32), 1.5, torch.int16).item() == -10
    none = torch.empty(0, 3, dtype=torch.int16)
    assert ops.add_saturating(none, none, 1.0, 1.0).shape == (0, 3)
    assert ops.requantize(none.int(), 1.0, torch.int8).shape == (0, 3)


def test_the_operands_are_not_changed(path):
    a, b = integers(torch.int8, 100), integers(torch.int8, 100)
    kept = a.clone(), b.clone()
    ops.add_saturating(a, b, 0.7, 1.7)
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])
    assert same(ops.add_saturating(a, a, 0.5, 0.5), a)


@pytest.mark.filterwarnings("default")
def test_it_compiles_without_a_graph_break():
    a, b = integers(torch.int8, 64), integers(torch.int8, 64)

    def compute(a, b):
        return ops.add_saturating(ops.requantize(a.int(), 0.9, torch.int8), b, 0.7, 0.3)

    assert same(torch.compile(compute, backend="eager", fullgraph=True)(a, b), compute(a, b))


def test_what_is_wrong_is_said(path):
    a = torch.zeros(2, 3, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"^b has shape \[3\], but a has \[2, 3\]$"):
        ops.add_saturating(a, a[0], 1.0, 1.0)
    with pytest.raises(ValueError, match=r"^b has dtype torch.int16, but a has torch.int8$"):
        ops.add_saturating(a, a.short(), 1.0, 1.0)
    with pytest.raises(TypeError, match=r"^a has dtype torch.uint8, but must be torch.int8 or int16$"):
        ops.add_saturating(a.byte(), a.byte(), 1.0, 1.0)
    with pytest.raises(TypeError, match=r"^acc has dtype torch.int16, but must be torch.int32 or int64$"):
        ops.requantize(a.short(), 1.0, torch.int8)
    with pytest.raises(TypeError, match=r"^y has dtype torch.int32, but must be torch.int8 or int16$"):
        ops.requantize(a.int(), 1.0, torch.int32)
    for bad, spelled in ((-1.0, "-1.0"), (math.nan, "NaN"), (math.inf, "inf"), (2.0**31, "2147483648.0")):
        message = rf"^a factor is {spelled}, but must be at least 0 and less than 2\*\*31$"
        with pytest.raises(ValueError, match=message):
            ops.requantize(a.int(), bad, torch.int8)
        for factors in ((bad, 1.0), (1.0, bad)):
            with pytest.raises(ValueError, match=message):
                ops.add_saturating(a, a, *factors)


def test_the_result_must_not_overlap_the_terms():
    a, b = torch.ones(8, dtype=torch.int8), torch.ones(8, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"^b and y overlap in memory$"):
        _core.add_saturating(a, b, b, factor_a=1.0, factor_b=1.0, subtract=False, rounding="half_even")
    with pytest.raises(ValueError, match=r"^y has shape \[4\], but acc has \[8\]$"):
        _core.requantize(
            a.int(),
            b[:4],
            torch.ones(1, dtype=torch.float64),
            axis=None,
            landing=_core.Landing(0, -128, 127, "half_even", 31),
        )
    assert b.tolist() == [1] * 8
