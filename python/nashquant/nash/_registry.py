"""What has an integer form: one line for each ONNX op. Pointwise functions are in `_functions`, moves in `_moves`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from . import (
    _choose,
    _clips,
    _einsum,
    _elementwise,
    _gemm,
    _joins,
    _normalize,
    _pools,
    _resample,
    _roots,
    _shapes,
    _softmax,
    _spelled,
)
from ._forms import Target
from ._moves import MOVES, move
from ._step import Made, Place

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["REGISTRY", "Op"]


@dataclass(frozen=True)
class Op:
    """An ONNX op with an integer form.

    Attributes:
        make: the step for a node; with a target, its result lands there. Raises NotIntegerError with the reason.
        lands: whether it rounds onto the grid of the quantizer behind it; else it gives what it has.
        place: what it computes on.
        stored: whether it also takes integers as the file stores them, with no DequantizeLinear in front.
    """

    make: Callable[[Plan, ir.Node, Target | None], Made]
    lands: bool = True
    place: Place = Place.INTEGER
    stored: bool = False


REGISTRY: Mapping[str, Op] = MappingProxyType(
    {
        "Conv": Op(_gemm.conv),
        "ConvTranspose": Op(_gemm.conv_transpose),
        "Gemm": Op(_gemm.gemm),
        "MatMul": Op(_gemm.matmul),
        "ConvInteger": Op(_gemm.conv_integer, lands=False, stored=True),
        "MatMulInteger": Op(_gemm.matmul_integer, lands=False, stored=True),
        "Einsum": Op(_einsum.einsum),
        "BatchNormalization": Op(_gemm.batch_norm),
        "Add": Op(_spelled.add),
        "Sub": Op(_elementwise.sub),
        "Mul": Op(_spelled.mul),
        "Div": Op(_spelled.div),
        "Sqrt": Op(_roots.square_root),
        "Pow": Op(_roots.power),
        "Reciprocal": Op(_roots.reciprocal),
        "ReduceL2": Op(_roots.norm),
        "Max": Op(_elementwise.maximum),
        "Min": Op(_elementwise.minimum),
        "Where": Op(_elementwise.where),
        **{name: Op(_elementwise.compare, lands=False) for name in _elementwise.COMPARISONS},
        "Relu": Op(_clips.clip, lands=False),
        "Clip": Op(_clips.clip, lands=False),
        "AveragePool": Op(_pools.average_pool),
        "GlobalAveragePool": Op(_pools.global_average_pool),
        "ReduceMean": Op(_pools.reduce_mean),
        "ReduceSum": Op(_pools.reduce_sum),
        "CumSum": Op(_pools.cumulative_sum),
        "Concat": Op(_joins.concat),
        "Pad": Op(_joins.pad),
        "ScatterElements": Op(_joins.scatter_elements),
        "ScatterND": Op(_joins.scatter_nd),
        "Resize": Op(_resample.resize),
        "GridSample": Op(_resample.grid_sample),
        "Softmax": Op(_softmax.softmax),
        "LogSoftmax": Op(_softmax.log_softmax),
        "ReduceLogSumExp": Op(_softmax.log_sum_exp),
        "LayerNormalization": Op(_normalize.layer_norm),
        "RMSNormalization": Op(_normalize.rms_norm),
        "InstanceNormalization": Op(_normalize.instance_norm),
        "GroupNormalization": Op(_normalize.group_norm),
        "ArgMax": Op(_choose.arg_extreme, lands=False, stored=True),
        "ArgMin": Op(_choose.arg_extreme, lands=False, stored=True),
        **{name: Op(_shapes.shape, lands=False, place=Place.SHAPE) for name in ("Shape", "Size")},
        "TopK": Op(_choose.top_k, lands=False, stored=True),
        **{name: Op(move, lands=False, place=Place.MOVE) for name in MOVES},
    }
)
