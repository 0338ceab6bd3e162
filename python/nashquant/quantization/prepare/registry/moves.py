"""Ops that move values, join tensors or make new ones."""

from __future__ import annotations

from torch import nn

from nashquant.op_kind import OpKind

from .entry import OpEntry

__all__ = ["ENTRIES"]

_PASS = (
    *("reshape", "view", "view_as", "reshape_as", "flatten", "unflatten", "ravel", "contiguous", "clone"),
    *("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "adjoint"),
    *("squeeze", "unsqueeze", "expand", "expand_as", "repeat", "repeat_interleave", "tile", "broadcast_to"),
    *("getitem", "select", "narrow", "index_select", "gather", "take_along_dim", "diagonal", "unfold"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "flip", "roll", "rot90"),
    *("topk", "sort", "amax", "amin", "max_pool1d", "max_pool2d", "max_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "masked_select"),
    *("detach", "to", "cpu", "cuda", "float", "half", "double", "bfloat16", "type_as", "requires_grad"),
    *("data", "T", "mT", "H", "atleast_1d", "atleast_2d", "atleast_3d"),
)

# Off the grid while training, by 1/(1 - p); on the chip, and in eval mode, it does nothing.
_DROPOUT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout")

_CONSTANT = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)

ENTRIES = (
    OpEntry("identity", OpKind.PASS, (nn.Identity,)),
    *(OpEntry(name, OpKind.PASS) for name in (*_PASS, *_DROPOUT)),
    OpEntry("max", OpKind.PASS, with_tensor="maximum"),
    OpEntry("min", OpKind.PASS, with_tensor="minimum"),
    OpEntry("cat", OpKind.CONCAT, aliases=("concat", "concatenate")),
    *(OpEntry(name, OpKind.CONCAT) for name in ("stack", "hstack", "vstack", "dstack")),
    OpEntry("embedding", OpKind.EMBEDDING, (nn.Embedding,)),
    OpEntry("interpolate", OpKind.RESAMPLE, aliases=("upsample", "upsample_nearest", "upsample_bilinear")),
    OpEntry("grid_sample", OpKind.RESAMPLE, coordinates=("1", "grid")),
    OpEntry("pad", OpKind.RESAMPLE, note="the value it pads with need not be on the grid"),
    *(OpEntry(name, OpKind.CONSTANT) for name in _CONSTANT),
)
