"""Every rounding of every factor, against fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nashquant import ops
from nashquant.arithmetic import NASH, TFLITE, TFLITE_INT16, Arithmetic, Rounding

ONCE = [Rounding.HALF_EVEN, Rounding.HALF_UP, Rounding.HALF_AWAY, Rounding.FLOOR]
ALL = [*map(Arithmetic, ONCE), TFLITE, TFLITE_INT16]


def rounded(value: Fraction, rounding: Rounding) -> int:
    floor = math.floor(value)
    rest = value - floor
    if rounding is Rounding.FLOOR or rest < Fraction(1, 2):
        return floor
    if rest > Fraction(1, 2) or rounding is Rounding.HALF_UP:
        return floor + 1
    return floor + (floor % 2 if rounding is Rounding.HALF_EVEN else value > 0)


def fixed(factor: float, arithmetic: Arithmetic) -> tuple[int, int]:
    """Multiplier and shift, as the contract says."""
    if factor == 0:
        return 0, 0
    shift = 31 - math.frexp(factor)[1]
    tflite = arithmetic in (TFLITE, TFLITE_INT16)
    exact = Fraction(factor) * Fraction(2) ** shift
    multiplier = rounded(exact, Rounding.HALF_AWAY if tflite else Rounding.HALF_EVEN)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    if shift > (62 if tflite else 94):
        return 0, 0
    if arithmetic.multiplier_bits == 15:
        return min((multiplier + 2**15) // 2**16, 2**15 - 1), shift - 16
    return multiplier, shift


def expected(acc: int, factor: float, arithmetic: Arithmetic) -> int:
    multiplier, shift = fixed(factor, arithmetic)
    if arithmetic is TFLITE:
        first = rounded(Fraction(acc * multiplier) / 2 ** min(shift, 31), Rounding.HALF_UP)
        value = rounded(Fraction(first) / 2 ** max(shift - 31, 0), Rounding.HALF_AWAY)
    else:
        value = rounded(acc * multiplier / Fraction(2) ** shift, arithmetic.rounding)
    return max(-(2**15), min(value, 2**15 - 1))


def accumulators(bits: int) -> list[int]:
    near = [2**power + d for power in range(0, bits, bits // 16) for d in (-1, 0, 1)]
    return [acc for n in near for acc in (n, -n) if -(2 ** (bits - 1)) <= acc < 2 ** (bits - 1)]


@pytest.mark.parametrize("arithmetic", ALL, ids=lambda a: f"{a.rounding.value}-{a.multiplier_bits}")
@pytest.mark.parametrize("bits", [32, 64])
def test_every_shift_rounds_ties_and_ends_as_fractions_do(path, bits, arithmetic):
    accs = accumulators(bits)
    tensor = torch.tensor(accs, dtype=torch.int32 if bits == 32 else torch.int64)
    for exponent in range(-66, 32, 5):
        for mantissa in (0.5, 0.5 + 2.0**-31, 0.75, 1 - 2.0**-31, 1 - 2.0**-40, 0.7):
            factor = math.ldexp(mantissa, exponent)
            if factor < 2**31 - 0.5:
                found = ops.requantize(tensor, factor, torch.int16, arithmetic=arithmetic).tolist()
                assert found == [expected(acc, factor, arithmetic) for acc in accs], factor


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    st.integers(0, 60),
    st.floats(0, 2.0**31, exclude_max=True),
    st.sampled_from(ALL),
)
def test_accumulators_of_any_size_are_exact(accs, down, factor, arithmetic):
    accs, factor = [acc >> down for acc in accs], min(factor, 2.0**31 - 1)
    tensor = torch.tensor(accs)
    found = ops.requantize(tensor, factor, torch.int16, arithmetic=arithmetic)
    assert found.tolist() == [expected(acc, factor, arithmetic) for acc in accs]


def test_ties_in_every_rounding(path):
    acc = torch.tensor([1, 3, -1, -3, 2], dtype=torch.int32)
    answers = {
        Rounding.HALF_EVEN: [0, 2, 0, -2, 1],
        Rounding.HALF_UP: [1, 2, 0, -1, 1],
        Rounding.HALF_AWAY: [1, 2, -1, -2, 1],
        Rounding.FLOOR: [0, 1, -1, -2, 1],
        Rounding.TFLITE: [1, 2, 0, -1, 1],  # no second rounding behind a shift of 31
    }
    for rounding, answer in answers.items():
        assert ops.requantize(acc, 0.5, torch.int8, arithmetic=Arithmetic(rounding)).tolist() == answer
    quarter = ops.requantize(2 * acc, 0.25, torch.int8, arithmetic=TFLITE)
    assert quarter.tolist() == [1, 2, -1, -2, 1]  # the second rounding: half away


def test_many_factors_each_have_their_channel(path):
    acc = torch.randint(-(2**31), 2**31, (2, 3, 5), dtype=torch.int32)
    for axis in (0, 1, 2, -1, -2):
        factors = torch.rand(acc.shape[axis], dtype=torch.float64) * 1e-6
        for dtype in (torch.int32, torch.int64):
            found = ops.requantize(acc.to(dtype), factors, torch.int16, axis=axis)
            parts = [
                ops.requantize(part.to(dtype), f.item(), torch.int16)
                for part, f in zip(acc.unbind(axis), factors, strict=True)
            ]
            assert torch.equal(found, torch.stack(parts, axis))


def test_the_zero_point_is_added_before_the_ends(path):
    acc = torch.tensor([-1000, -9, -7, 0, 7, 1000], dtype=torch.int32)
    found = ops.requantize(acc, 0.5, torch.int8, zero_point=5, qmin=5)
    assert found.tolist() == [5, 5, 5, 5, 9, 127]  # 3.5 is rounded to 4 before 5 is added
    found = ops.requantize(acc, 0.5, torch.int8, zero_point=-128, qmin=-128, qmax=-120)
    assert found.tolist() == [-128, -128, -128, -128, -124, -120]
    huge = torch.tensor([2**31 - 1, -(2**31)], dtype=torch.int32)
    for arithmetic in ALL:
        found = ops.requantize(huge, 2.0**30, torch.int16, zero_point=-32768, arithmetic=arithmetic)
        assert found.tolist() == [32767, -32768]


@pytest.mark.parametrize("rounding", ONCE)
@given(a=st.integers(-(2**15), 2**15 - 1), b=st.integers(-(2**15), 2**15 - 1), other=st.integers(0, 2**31 - 1))
def test_sums_and_differences_round_so_too(rounding, a, b, other):
    pair = torch.tensor([a], dtype=torch.int16), torch.tensor([b], dtype=torch.int16)
    of_a, of_b = Fraction(3, 4), Fraction(other, 2**31)
    if of_b > of_a:
        of_b = Fraction(other >> 1, 2**31)
    for op, sign in ((ops.add_saturating, 1), (ops.sub_saturating, -1)):
        value = rounded(a * of_a + sign * b * of_b, rounding)
        found = op(*pair, float(of_a), float(of_b), arithmetic=Arithmetic(rounding))
        assert found.item() == max(-(2**15), min(value, 2**15 - 1))


def test_what_is_wrong_is_said(path):
    acc = torch.zeros(2, 3, dtype=torch.int32)
    factors = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^factor has shape \[3\], but for many factors axis must be given$"):
        ops.requantize(acc, factors, torch.int8)
    with pytest.raises(ValueError, match=r"^factor has shape \[3\], but acc has 2 indices on axis 0$"):
        ops.requantize(acc, factors, torch.int8, axis=0)
    with pytest.raises(IndexError, match=r"^axis is 2, but acc has 2 dimensions$"):
        ops.requantize(acc, factors, torch.int8, axis=2)
    with pytest.raises(TypeError, match=r"^factor has dtype torch.float32, but must be torch.float64$"):
        ops.requantize(acc, factors.float(), torch.int8, axis=1)
    with pytest.raises(ValueError, match=r"^a factor is -1.0, but must be at least 0 and less than 2\*\*31$"):
        ops.requantize(acc, -factors, torch.int8, axis=1)
    with pytest.raises(ValueError, match=r"^qmin is 5 and qmax 4, but must be in order and lie between -128 and 127$"):
        ops.requantize(acc, 1.0, torch.int8, qmin=5, qmax=4)
    with pytest.raises(ValueError, match=r"^qmin is -129 and qmax 127, but must be in order"):
        ops.requantize(acc, 1.0, torch.int8, qmin=-129)
    with pytest.raises(ValueError, match=r"^zero_point is 128, but must lie between -128 and 127$"):
        ops.requantize(acc, 1.0, torch.int8, zero_point=128)


def test_the_arithmetic_of_nash_is_the_default(path):
    acc = torch.tensor([1, 3], dtype=torch.int32)
    assert torch.equal(ops.requantize(acc, 0.5, torch.int8), ops.requantize(acc, 0.5, torch.int8, arithmetic=NASH))
