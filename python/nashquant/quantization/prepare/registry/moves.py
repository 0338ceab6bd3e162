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
    *("diag", "diag_embed", "tril", "triu", "as_strided", "take"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind"),
    *("flip", "fliplr", "flipud", "roll", "rot90"),
    *("topk", "sort", "msort"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    *("detach", "to", "cpu", "cuda", "float", "half", "double", "bfloat16", "type_as", "requires_grad"),
    *("T", "mT", "H", "atleast_1d", "atleast_2d", "atleast_3d"),
)

_NO_ONNX = ("kthvalue", "median", "mode", "cummax", "cummin", "masked_select")

# Off the grid while training, by 1/(1 - p); on the chip, and in eval mode, it does nothing.
_DROPOUT = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout")

_CONSTANT = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)

ENTRIES = (
    OpEntry("identity", OpKind.PASS, (nn.Identity,)),
    *(OpEntry(name, OpKind.PASS) for name in (*_PASS, *_DROPOUT)),
    *(OpEntry(name, OpKind.PASS, note="give it a dim, to export it") for name in ("amax", "amin", "aminmax")),
    *(OpEntry(name, OpKind.PASS, no_onnx="torch has no translation") for name in _NO_ONNX),
    OpEntry("data", OpKind.PASS, no_onnx="torch.export can't follow it; use detach"),
    OpEntry("diagonal_scatter", OpKind.CONCAT, no_onnx="torch has no translation"),
    OpEntry("max", OpKind.PASS, with_tensor="maximum"),
    OpEntry("min", OpKind.PASS, with_tensor="minimum"),
    *(OpEntry(f"max_pool{n}d", OpKind.PASS, aliases=(f"max_pool{n}d_with_indices",)) for n in "123"),
    *(OpEntry(f"adaptive_max_pool{n}d", OpKind.PASS, aliases=(f"adaptive_max_pool{n}d_with_indices",)) for n in "123"),
    OpEntry("cat", OpKind.CONCAT, aliases=("concat", "concatenate")),
    *(OpEntry(name, OpKind.CONCAT) for name in ("stack", "hstack", "vstack", "dstack", "column_stack", "block_diag")),
    *(OpEntry(name, OpKind.CONCAT) for name in ("scatter", "index_copy", "index_fill", "index_put", "masked_scatter")),
    OpEntry("setitem", OpKind.CONCAT, note="`x[i] = y`"),
    *(OpEntry(name, OpKind.CONCAT) for name in ("select_scatter", "slice_scatter")),
    OpEntry("embedding", OpKind.EMBEDDING, (nn.Embedding,)),
    OpEntry("interpolate", OpKind.RESAMPLE, aliases=("upsample", "upsample_nearest", "upsample_bilinear")),
    OpEntry("grid_sample", OpKind.RESAMPLE, coordinates=("1", "grid")),
    OpEntry("pad", OpKind.RESAMPLE, note="the value it pads with need not be on the grid"),
    *(OpEntry(name, OpKind.CONSTANT) for name in _CONSTANT),
)
