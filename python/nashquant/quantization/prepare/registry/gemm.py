"""The doors of the quantized region, and the ops with a wide accumulator."""

from __future__ import annotations

from torch import nn

from nashquant.nn import stubs
from nashquant.op_kind import OpKind

from .entry import OpEntry

__all__ = ["ENTRIES"]

_GEMM = OpKind.GEMM
_MATMUL = OpKind.MATMUL

ENTRIES = (
    OpEntry("quant", OpKind.QUANT, (stubs.QuantStub,), note="torch's own stub counts as ours"),
    OpEntry("dequant", OpKind.DEQUANT, (stubs.DeQuantStub,), note="torch's own stub counts as ours"),
    OpEntry("conv1d", _GEMM, (nn.Conv1d,), activations=1, norm=nn.BatchNorm1d),
    OpEntry("conv2d", _GEMM, (nn.Conv2d,), activations=1, norm=nn.BatchNorm2d),
    OpEntry("conv3d", _GEMM, (nn.Conv3d,), activations=1, norm=nn.BatchNorm3d),
    OpEntry("conv_transpose1d", _GEMM, (nn.ConvTranspose1d,), weight_axis=1, activations=1, norm=nn.BatchNorm1d),
    OpEntry("conv_transpose2d", _GEMM, (nn.ConvTranspose2d,), weight_axis=1, activations=1, norm=nn.BatchNorm2d),
    OpEntry("conv_transpose3d", _GEMM, (nn.ConvTranspose3d,), weight_axis=1, activations=1, norm=nn.BatchNorm3d),
    OpEntry("linear", _GEMM, (nn.Linear,), activations=1, norm=nn.BatchNorm1d),
    *(
        OpEntry(name, _MATMUL)
        for name in ("matmul", "bmm", "mm", "mv", "dot", "inner", "vecdot", "einsum", "tensordot")
    ),
    *(OpEntry(name, _MATMUL) for name in ("addmm", "baddbmm", "addbmm", "addmv")),
    OpEntry("outer", OpKind.ELEMENTWISE, aliases=("ger",)),
)
