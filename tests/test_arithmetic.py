from __future__ import annotations

import pytest

from nashquant import March
from nashquant.arithmetic import NASH, TFLITE, TFLITE_INT16, Arithmetic, Rounding


def test_the_arithmetic_is_data_of_the_march():
    assert {march.spec.arithmetic for march in March} == {NASH}
    assert Arithmetic(Rounding.HALF_EVEN, multiplier_bits=31, accumulator_bits=32, table_bits=16) == NASH
    assert len({NASH, TFLITE, TFLITE_INT16, Arithmetic()}) == 3


def test_numbers_of_bits_that_no_kernel_has_are_refused():
    with pytest.raises(ValueError, match=r"^multiplier_bits is 16, but must be 15 or 31$"):
        Arithmetic(multiplier_bits=16)
    with pytest.raises(ValueError, match=r"^table_bits is 0, but must be from 1 to 16$"):
        Arithmetic(table_bits=0)
    with pytest.raises(ValueError, match=r"^TFLite rounds twice with 31 bits of multiplier; with 15 bits, once"):
        Arithmetic(Rounding.TFLITE, multiplier_bits=15)
