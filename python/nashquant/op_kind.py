"""What kinds of op the chip has: what each does to the grid of its inputs."""

from __future__ import annotations

import enum

__all__ = ["OpKind"]


class OpKind(enum.Enum):
    """What an op does to the grid of its inputs. A march has its dtype rules by kind.

    >>> OpKind.LUT.makes_grid, OpKind.PASS.makes_grid
    (True, False)
    """

    QUANT = "quant"
    DEQUANT = "dequant"
    GEMM = "gemm"
    MATMUL = "matmul"
    ELEMENTWISE = "elementwise"
    CLAMP = "clamp"
    LUT = "lut"
    COMPOSITE = "composite"
    REDUCE = "reduce"
    CONCAT = "concat"
    EMBEDDING = "embedding"
    RESAMPLE = "resample"
    PASS = "pass"
    COMPARE = "compare"
    CONSTANT = "constant"
    SPELLED = "spelled"

    @property
    def makes_grid(self) -> bool:
        """Whether the output has a quantizer of its own."""
        return self not in _WITHOUT_GRID

    @property
    def meaning(self) -> str:
        """How an op of this kind is quantized, in a sentence."""
        return _MEANING[self]


_WITHOUT_GRID = frozenset(
    {OpKind.PASS, OpKind.RESAMPLE, OpKind.DEQUANT, OpKind.COMPARE, OpKind.CONSTANT, OpKind.SPELLED}
)

_MEANING = {
    OpKind.QUANT: "The door into the quantized region: puts a float tensor on its grid.",
    OpKind.DEQUANT: "The door out of it: gives the tensor back as float.",
    OpKind.GEMM: "Integer products into a wide accumulator; the weight is quantized per output channel.",
    OpKind.MATMUL: "Integer products into a wide accumulator; both sides are activations.",
    OpKind.ELEMENTWISE: "Saturating integer arithmetic, element by element; the result gets a grid of its own.",
    OpKind.CLAMP: "Exact on integers, but what is left deserves a grid of its own.",
    OpKind.LUT: "A table over the integers of its input.",
    OpKind.COMPOSITE: "Several chip ops; computed in float here, and only the grid of the output is configured.",
    OpKind.REDUCE: "An exact sum, then requantized.",
    OpKind.CONCAT: "Inputs requantized to one grid.",
    OpKind.EMBEDDING: "A table of vectors, quantized once and indexed by integers.",
    OpKind.RESAMPLE: "Computes between neighbours; the result is rounded to the grid of the first input.",
    OpKind.PASS: "Moves values or picks among them; the result stays on the grid of the first input.",
    OpKind.COMPARE: "Gives bools, indices or integers, which need no grid.",
    OpKind.CONSTANT: "Makes a tensor from the shape of another; quantized where a quantized op takes it.",
    OpKind.SPELLED: "Several ops in one call of torch; recorded, quantized and named one by one.",
}
