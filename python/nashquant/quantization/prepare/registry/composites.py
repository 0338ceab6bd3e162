"""Ops that the chip computes in several steps, reductions, and calls of torch that hide several ops."""

from __future__ import annotations

from torch import nn

from nashquant.op_kind import OpKind
from nashquant.quantization.prepare.composite import (
    attention_weights,
    is_unusual,
    multi_head_attention,
    scaled_dot_product_attention,
)
from nashquant.quantization.prepare.recurrent import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell

from .entry import Joins, OpEntry

__all__ = ["ENTRIES"]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

ENTRIES = (
    OpEntry("prelu", OpKind.COMPOSITE, (nn.PReLU,), activations=1),
    OpEntry("glu", OpKind.COMPOSITE, (nn.GLU,)),
    OpEntry(
        "softmax",
        OpKind.COMPOSITE,
        (nn.Softmax, nn.Softmax2d),
        functions=(attention_weights,),
        activations=1,
        joins=(Joins.MASKED,),
    ),
    OpEntry("softmin", OpKind.COMPOSITE, (nn.Softmin,)),
    OpEntry("log_softmax", OpKind.COMPOSITE, (nn.LogSoftmax,)),
    OpEntry("layer_norm", OpKind.COMPOSITE, (nn.LayerNorm,), activations=1),
    OpEntry("rms_norm", OpKind.COMPOSITE, (nn.RMSNorm,), activations=1),
    OpEntry("group_norm", OpKind.COMPOSITE, (nn.GroupNorm,), activations=1),
    OpEntry("instance_norm", OpKind.COMPOSITE, _INSTANCE_NORMS, activations=1),
    OpEntry("batch_norm", OpKind.COMPOSITE, _BATCH_NORMS, activations=1, joins=(Joins.NORM,)),
    OpEntry("local_response_norm", OpKind.COMPOSITE, (nn.LocalResponseNorm,)),
    OpEntry("norm", OpKind.COMPOSITE, aliases=("vector_norm", "frobenius_norm", "dist")),
    OpEntry("div", OpKind.COMPOSITE, aliases=("divide", "true_divide", "truediv")),
    OpEntry("floor_divide", OpKind.COMPOSITE, aliases=("floordiv",)),
    OpEntry("remainder", OpKind.COMPOSITE, aliases=("mod",)),
    OpEntry("pow_tensor", OpKind.COMPOSITE, aliases=("float_power",)),
    *(OpEntry(name, OpKind.COMPOSITE) for name in ("fmod", "atan2", "addcdiv", "logaddexp", "cross")),
    *(OpEntry(name, OpKind.COMPOSITE) for name in ("normalize", "cosine_similarity", "pairwise_distance")),
    *(OpEntry(name, OpKind.COMPOSITE) for name in ("var", "std", "prod", "logsumexp")),
    OpEntry("hypot", OpKind.COMPOSITE, no_onnx="torch has no translation; write sqrt(x * x + y * y)"),
    OpEntry("cdist", OpKind.COMPOSITE, no_onnx="torch has no translation"),
    OpEntry("cumprod", OpKind.COMPOSITE, no_onnx="torch has no translation"),
    OpEntry("affine_grid", OpKind.COMPOSITE),
    OpEntry("lp_pool2d", OpKind.COMPOSITE, (nn.LPPool2d,)),
    *(OpEntry(name, OpKind.REDUCE) for name in ("mean", "sum", "cumsum", "trace")),
    OpEntry("fold", OpKind.REDUCE, (nn.Fold,)),
    OpEntry("avg_pool1d", OpKind.REDUCE, (nn.AvgPool1d,)),
    OpEntry("avg_pool2d", OpKind.REDUCE, (nn.AvgPool2d,)),
    OpEntry("avg_pool3d", OpKind.REDUCE, (nn.AvgPool3d,)),
    OpEntry("adaptive_avg_pool1d", OpKind.REDUCE, (nn.AdaptiveAvgPool1d,)),
    OpEntry("adaptive_avg_pool2d", OpKind.REDUCE, (nn.AdaptiveAvgPool2d,)),
    OpEntry("adaptive_avg_pool3d", OpKind.REDUCE, (nn.AdaptiveAvgPool3d,)),
    OpEntry("scaled_dot_product_attention", OpKind.SPELLED, parts=scaled_dot_product_attention),
    OpEntry("multi_head_attention_forward", OpKind.SPELLED, parts=multi_head_attention, rare=is_unusual),
    OpEntry("lstm_cell", OpKind.SPELLED, parts=lstm_cell),
    OpEntry("gru_cell", OpKind.SPELLED, parts=gru_cell),
    OpEntry("rnn_tanh_cell", OpKind.SPELLED, parts=rnn_tanh_cell),
    OpEntry("rnn_relu_cell", OpKind.SPELLED, parts=rnn_relu_cell),
)
