"""How a chip computes with integers: frozen data, so that another chip is one line away."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["NASH", "TFLITE", "TFLITE_FULLY_CONNECTED", "TFLITE_INT16", "Arithmetic", "Rounding"]


class Rounding(enum.Enum):
    """What becomes of the fraction that a product with a factor leaves.

    >>> Rounding("half_even")
    <Rounding.HALF_EVEN: 'half_even'>
    """

    HALF_EVEN = "half_even"  # to nearest; a half to the even neighbour
    HALF_UP = "half_up"  # to nearest; a half towards plus infinity
    HALF_AWAY = "half_away"  # to nearest; a half away from zero
    FLOOR = "floor"  # towards minus infinity
    TFLITE = "tflite"  # twice: behind 31 bits half up, then behind what is left of the shift half away


@dataclass(frozen=True)
class Arithmetic:
    """The rules of a chip's integer arithmetic.

    Attributes:
        rounding: of every product with a factor, once, or twice as TFLite does.
        multiplier_bits: 31, or 15: the upper half of the 31, rounded half up, and at most 2**15 - 1.
        accumulator_bits: of the chip. Ours are wide enough never to wrap; what leaves these is counted.
        table_bits: how many bits of an int16 number choose the entry of a table; between entries lies a straight line.

    Raises:
        ValueError: a number of bits is none of those.

    >>> Arithmetic(rounding=Rounding.FLOOR).multiplier_bits
    31
    """

    rounding: Rounding = Rounding.HALF_EVEN
    multiplier_bits: int = 31
    accumulator_bits: int = 32
    table_bits: int = 16

    def __post_init__(self) -> None:
        if self.multiplier_bits not in (15, 31):
            raise ValueError(f"multiplier_bits is {self.multiplier_bits}, but must be 15 or 31")
        if not 1 <= self.table_bits <= 16:
            raise ValueError(f"table_bits is {self.table_bits}, but must be from 1 to 16")
        if self.multiplier_bits == 15 and self.rounding is Rounding.TFLITE:
            raise ValueError("TFLite rounds twice with 31 bits of multiplier; with 15 bits, once and half up")


NASH = Arithmetic()
"""Our choice for the NASH BPU, whose rounding is not public."""

TFLITE = Arithmetic(rounding=Rounding.TFLITE)
"""What TFLite's reference kernels compute where the accumulator has 32 bits: sums, products, convolutions."""

TFLITE_INT16 = Arithmetic(rounding=Rounding.HALF_UP, multiplier_bits=15, accumulator_bits=64)
"""The same of its convolutions of int16 activations and int8 weights, whose accumulator has 64 bits."""

TFLITE_FULLY_CONNECTED = Arithmetic(rounding=Rounding.HALF_AWAY)
"""The same of its fully-connected op, which rounds once: found by experiment on LiteRT 2.3."""
