"""One small call of each entry of the op registry: `body(self, x, y)` between the stubs, on two inputs of one shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.nn import Acosh, FloatFunctional
from nashquant.op_kind import OpKind
from nashquant.quantization import DeQuantStub, QuantStub
from nashquant.quantization.prepare.registry import ENTRIES, OpEntry

Body = Callable[..., Any]
IMAGE, ROWS, SEQUENCE, VOLUME = (2, 4, 6, 6), (3, 4), (2, 4, 8), (2, 4, 3, 5, 5)
INDEX = torch.tensor([1, 0, 1])


@dataclass(frozen=True)
class Example:
    """Inputs lie between `low` and `low + 0.8`."""

    body: Body
    shape: tuple[int, ...] = IMAGE
    children: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    low: float = 0.1

    def inputs(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        x, y = (torch.rand(self.shape, generator=generator) * 0.8 + self.low for _ in range(2))
        return x, y

    def model(self) -> nn.Module:
        torch.manual_seed(5)
        return Around(self.body, {name: make() for name, make in self.children.items()}).eval()


class Around(nn.Module):
    """`body` between a QuantStub for each input and a DeQuantStub for each output."""

    def __init__(self, body: Body, children: Mapping[str, Any]) -> None:
        super().__init__()
        self.quant, self.quant_other, self.dequant = QuantStub(), QuantStub(), DeQuantStub()
        self.body = body
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Any, ...]:
        result = self.body(self, self.quant(x), self.quant_other(y))
        results = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(self.dequant(r) if isinstance(r, Tensor) and r.is_floating_point() else r for r in results)


def named(name: str) -> Callable[..., Any]:
    """The torch function of an entry, by its first spelling."""
    for home in (torch, F, Tensor, torch.linalg, torch.special):
        if hasattr(home, name):
            return getattr(home, name)  # type: ignore[no-any-return]
    raise AttributeError(name)


def two(name: str, shape: tuple[int, ...] = IMAGE) -> Example:
    return Example(lambda s, x, y: named(name)(x, y), shape)


def one(name: str, *args: Any, shape: tuple[int, ...] = IMAGE, low: float = 0.1, **kwargs: Any) -> Example:
    return Example(lambda s, x, y: named(name)(x, *args, **kwargs), shape, low=low)


def module(make: Callable[[], nn.Module], shape: tuple[int, ...] = IMAGE) -> Example:
    return Example(lambda s, x, y: s.m(x), shape, {"m": make})


def weight(*shape: int) -> dict[str, Callable[[], Any]]:
    return {"w": lambda: nn.Parameter(torch.randn(shape))}


def attention(self: nn.Module, x: Tensor, y: Tensor) -> Any:
    return self.m(x, y, y)  # type: ignore[operator]


def filled(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:] = y[:, 1:]
    return x


FUNCTIONS: dict[str, Example] = {
    "conv1d": Example(lambda s, x, y: F.conv1d(x, s.w), SEQUENCE, weight(6, 4, 3)),
    "conv2d": Example(lambda s, x, y: F.conv2d(x, s.w), IMAGE, weight(6, 4, 3, 3)),
    "conv3d": Example(lambda s, x, y: F.conv3d(x, s.w), VOLUME, weight(6, 4, 1, 3, 3)),
    "conv_transpose1d": Example(lambda s, x, y: F.conv_transpose1d(x, s.w), SEQUENCE, weight(4, 6, 3)),
    "conv_transpose2d": Example(lambda s, x, y: F.conv_transpose2d(x, s.w), IMAGE, weight(4, 6, 3, 3)),
    "conv_transpose3d": Example(lambda s, x, y: F.conv_transpose3d(x, s.w), VOLUME, weight(4, 6, 1, 2, 2)),
    "linear": Example(lambda s, x, y: F.linear(x, s.w), ROWS, weight(5, 4)),
    "matmul": Example(lambda s, x, y: x @ y.transpose(-1, -2)),
    "bmm": Example(lambda s, x, y: torch.bmm(x, y.mT), SEQUENCE),
    "mm": Example(lambda s, x, y: torch.mm(x, y.T), ROWS),
    "mv": Example(lambda s, x, y: torch.mv(x, y[0]), ROWS),
    "dot": Example(lambda s, x, y: torch.dot(x[0], y[0]), ROWS),
    "inner": two("inner", ROWS),
    "vecdot": two("vecdot", ROWS),
    "einsum": Example(lambda s, x, y: torch.einsum("bci,bdi->bcd", x, y), SEQUENCE),
    "tensordot": Example(lambda s, x, y: torch.tensordot(x, y.T, 1), ROWS),
    "addmm": Example(lambda s, x, y: torch.addmm(x[:, :3], x, y.T), ROWS),
    "baddbmm": Example(lambda s, x, y: torch.baddbmm(x[..., :4], x, y.mT), SEQUENCE),
    "addbmm": Example(lambda s, x, y: torch.addbmm(x[0, :, :4], x, y.mT), SEQUENCE),
    "addmv": Example(lambda s, x, y: torch.addmv(x[:, 0], x, y[0]), ROWS),
    "outer": Example(lambda s, x, y: torch.outer(x[0], y[0]), ROWS),
    "add_relu": Example(lambda s, x, y: s.m.add_relu(x, y), children={"m": FloatFunctional}),
    "where": Example(lambda s, x, y: torch.where(x > y, x, y)),
    "masked_fill": Example(lambda s, x, y: x.masked_fill(x > y, 0.25)),
    "neg": one("neg"),
    "abs": one("abs"),
    "addcmul": Example(lambda s, x, y: torch.addcmul(x, x, y, value=0.5)),
    "lerp": Example(lambda s, x, y: torch.lerp(x, y, 0.3)),
    "scatter_add": Example(lambda s, x, y: x.scatter_add(0, INDEX[:, None].expand(3, 4), y), ROWS),
    "index_add": Example(lambda s, x, y: x.index_add(0, INDEX, y), ROWS),
    "clamp": one("clamp", 0.2, 0.7),
    "isclose": two("isclose"),
    "equal": two("equal"),
    "logical_and": Example(lambda s, x, y: (x > 0.5) & (y > 0.5)),
    "logical_or": Example(lambda s, x, y: (x > 0.5) | (y > 0.5)),
    "logical_xor": Example(lambda s, x, y: (x > 0.5) ^ (y > 0.5)),
    "logical_not": Example(lambda s, x, y: ~(x > 0.5)),
    "all": Example(lambda s, x, y: (x > 0.5).all()),
    "any": Example(lambda s, x, y: (x > 0.5).any()),
    "threshold": one("threshold", 0.3, 0.25),
    "pow": one("pow", 2),
    "acosh": one("acosh", low=1.1),
    "prelu": Example(lambda s, x, y: F.prelu(x, s.w), children=weight(4)),
    "softmax": one("softmax", -1),
    "softmin": one("softmin", -1),
    "log_softmax": one("log_softmax", -1),
    "layer_norm": one("layer_norm", (6,)),
    "rms_norm": one("rms_norm", (6,)),
    "group_norm": one("group_norm", 2),
    "instance_norm": Example(lambda s, x, y: F.instance_norm(x)),
    "batch_norm": Example(lambda s, x, y: F.batch_norm(x, torch.zeros(4), torch.ones(4))),
    "local_response_norm": one("local_response_norm", 2),
    "pow_tensor": Example(lambda s, x, y: x**y),
    "addcdiv": Example(lambda s, x, y: torch.addcdiv(x, x, y, value=0.5)),
    "cross": Example(lambda s, x, y: torch.cross(x[:, :3], y[:, :3], dim=1), ROWS),
    "cdist": two("cdist", ROWS),
    "cumprod": one("cumprod", -1),
    "logsumexp": one("logsumexp", -1),
    "affine_grid": Example(lambda s, x, y: F.affine_grid(x[:, :2, :3], (2, 4, 3, 3), align_corners=False), SEQUENCE),
    "lp_pool2d": one("lp_pool2d", 2, 2),
    "cumsum": one("cumsum", -1),
    "trace": one("trace", shape=ROWS),
    "fold": one("fold", (3, 5), 2, shape=(2, 4, 8)),
    "avg_pool1d": one("avg_pool1d", 2, shape=SEQUENCE),
    "avg_pool2d": one("avg_pool2d", 2),
    "avg_pool3d": one("avg_pool3d", 2, shape=VOLUME),
    "adaptive_avg_pool1d": one("adaptive_avg_pool1d", 2, shape=SEQUENCE),
    "adaptive_avg_pool2d": one("adaptive_avg_pool2d", 2),
    "adaptive_avg_pool3d": one("adaptive_avg_pool3d", 1, shape=VOLUME),
    "scaled_dot_product_attention": Example(lambda s, x, y: F.scaled_dot_product_attention(x, y, y)),
    "multi_head_attention_forward": Example(
        attention, (2, 3, 4), {"m": lambda: nn.MultiheadAttention(4, 2, batch_first=True)}
    ),
    "lstm_cell": Example(lambda s, x, y: s.m(x, (y, x)), ROWS, {"m": lambda: nn.LSTMCell(4, 4)}),
    "gru_cell": Example(lambda s, x, y: s.m(x, y), ROWS, {"m": lambda: nn.GRUCell(4, 4)}),
    "rnn_tanh_cell": Example(lambda s, x, y: s.m(x, y), ROWS, {"m": lambda: nn.RNNCell(4, 4)}),
    "rnn_relu_cell": Example(lambda s, x, y: s.m(x, y), ROWS, {"m": lambda: nn.RNNCell(4, 4, nonlinearity="relu")}),
    "reshape": one("reshape", (2, -1)),
    "view": one("view", 2, -1),
    "view_as": Example(lambda s, x, y: x.view_as(y)),
    "reshape_as": Example(lambda s, x, y: x.reshape_as(y)),
    "unflatten": one("unflatten", 1, (2, 2)),
    "permute": one("permute", (0, 2, 3, 1)),
    "transpose": one("transpose", 1, 2),
    "t": one("t", shape=ROWS),
    "swapaxes": one("swapaxes", 1, 2),
    "swapdims": one("swapdims", 1, 2),
    "movedim": one("movedim", 1, 2),
    "moveaxis": one("moveaxis", 1, 2),
    "unsqueeze": one("unsqueeze", 1),
    "squeeze": Example(lambda s, x, y: x[:1].squeeze(0)),
    "expand": Example(lambda s, x, y: x[:1].expand(3, -1, -1, -1)),
    "expand_as": Example(lambda s, x, y: x[:1].expand_as(y)),
    "repeat": one("repeat", 2, 1, 1, 1),
    "repeat_interleave": one("repeat_interleave", 2, 1),
    "tile": one("tile", (2, 1)),
    "broadcast_to": Example(lambda s, x, y: torch.broadcast_to(x[:1], (3, 4, 6, 6))),
    "getitem": Example(lambda s, x, y: x[:, 1:, ::2]),
    "select": one("select", 1, 0),
    "narrow": one("narrow", 1, 0, 2),
    "index_select": one("index_select", 1, INDEX),
    "gather": one("gather", 0, INDEX[:, None], shape=ROWS),
    "take_along_dim": one("take_along_dim", INDEX[:, None], 0, shape=ROWS),
    "take": one("take", INDEX),
    "unfold": Example(lambda s, x, y: x.unfold(-1, 2, 2)),
    "as_strided": Example(lambda s, x, y: x.as_strided((2, 3), (144, 1))),
    "diag": one("diag", shape=ROWS),
    "chunk": one("chunk", 2, 1),
    "split": one("split", 2, 1),
    "split_with_sizes": one("split_with_sizes", (1, 3), 1),
    "tensor_split": one("tensor_split", 2, 1),
    "hsplit": one("hsplit", 2),
    "vsplit": one("vsplit", 2),
    "dsplit": one("dsplit", 2),
    "flip": one("flip", (1,)),
    "roll": one("roll", 1, 1),
    "topk": one("topk", 2, shape=ROWS),
    "kthvalue": one("kthvalue", 2),
    "median": one("median", -1),
    "mode": one("mode", -1),
    "cummax": one("cummax", -1),
    "cummin": one("cummin", -1),
    "max": one("max", -1, shape=ROWS),
    "min": one("min", -1, shape=ROWS),
    "max_pool1d": one("max_pool1d", 2, shape=SEQUENCE),
    "max_pool2d": one("max_pool2d", 2),
    "max_pool3d": one("max_pool3d", 2, shape=VOLUME),
    "adaptive_max_pool1d": one("adaptive_max_pool1d", 2, shape=SEQUENCE),
    "adaptive_max_pool2d": one("adaptive_max_pool2d", 2),
    "adaptive_max_pool3d": one("adaptive_max_pool3d", 1, shape=VOLUME),
    "pixel_shuffle": one("pixel_shuffle", 2),
    "pixel_unshuffle": one("pixel_unshuffle", 2),
    "channel_shuffle": one("channel_shuffle", 2),
    "masked_select": Example(lambda s, x, y: x.masked_select(y > 0.5)),
    "to": one("to", torch.float64),
    "cuda": Example(lambda s, x, y: x.cuda() if torch.cuda.is_available() else x.to(x.device)),
    "type_as": Example(lambda s, x, y: x.type_as(y)),
    "requires_grad": Example(lambda s, x, y: x.requires_grad_(x.requires_grad)),
    "data": Example(lambda s, x, y: x.data),
    "T": Example(lambda s, x, y: x.T, ROWS),
    "H": Example(lambda s, x, y: x.H, ROWS),
    "mT": Example(lambda s, x, y: x.mT),
    "cat": Example(lambda s, x, y: torch.cat((x, y), 1)),
    "setitem": Example(filled),
    "select_scatter": Example(lambda s, x, y: x.select_scatter(y[:, 0], 1, 0)),
    "slice_scatter": Example(lambda s, x, y: x.slice_scatter(y[:1], 0, 0, 1)),
    "diagonal_scatter": Example(lambda s, x, y: x.diagonal_scatter(y[0, :3]), ROWS),
    "scatter": Example(lambda s, x, y: x.scatter(0, INDEX[:, None].expand(3, 4), y), ROWS),
    "index_copy": Example(lambda s, x, y: x.index_copy(0, torch.tensor([2, 0]), y[:2]), ROWS),
    "index_fill": Example(lambda s, x, y: x.index_fill(0, INDEX, 0.5), ROWS),
    "index_put": Example(lambda s, x, y: x.index_put((torch.tensor([0, 2]),), y[:2]), ROWS),
    "masked_scatter": Example(lambda s, x, y: x.masked_scatter(x > 0.5, y)),
    "embedding": Example(lambda s, x, y: F.embedding(INDEX, s.w) * x[0], ROWS, weight(5, 4)),
    "interpolate": one("interpolate", scale_factor=2, mode="bilinear"),
    "grid_sample": Example(lambda s, x, y: F.grid_sample(x, y[:, :3, :3, :2], align_corners=False)),
    "pad": one("pad", (1, 1), value=0.3),
    "new_zeros": Example(lambda s, x, y: x + x.new_zeros(6)),
    "new_ones": Example(lambda s, x, y: x + x.new_ones(6)),
    "new_empty": Example(lambda s, x, y: x + x.new_empty(6).zero_()),
    "new_full": Example(lambda s, x, y: x + x.new_full((6,), 0.5)),
    "new_tensor": Example(lambda s, x, y: x + x.new_tensor([0.5])),
    "full_like": Example(lambda s, x, y: x + torch.full_like(x, 0.5)),
    "empty_like": Example(lambda s, x, y: x + torch.empty_like(x).fill_(0.5)),
    "rand_like": Example(lambda s, x, y: x + torch.rand_like(x) * 0),
    "randn_like": Example(lambda s, x, y: x + torch.randn_like(x) * 0),
    "zeros_like": Example(lambda s, x, y: x + torch.zeros_like(x)),
    "ones_like": Example(lambda s, x, y: x + torch.ones_like(x)),
}

# Called with `x` alone, or with `x` and `y`.
UNARY = (
    *("isnan", "isinf", "isfinite", "signbit", "nonzero", "count_nonzero"),
    *("relu", "relu6", "hardtanh", "glu", "norm", "normalize", "var", "std", "prod", "mean", "sum"),
    *("flatten", "ravel", "contiguous", "clone", "diagonal", "diag_embed", "tril", "triu", "unbind", "rot90"),
    *("fliplr", "flipud", "msort", "detach", "adjoint"),
    *("atleast_1d", "atleast_2d", "atleast_3d"),
)
METHODS = (
    "cpu",
    "bool",
    "int",
    "long",
    "short",
    "char",
    "byte",
    "float",
    "half",
    "double",
    "bfloat16",
)  # torch.float: a dtype
BINARY = (
    *("add", "sub", "mul", "maximum", "minimum", "fmax", "fmin", "eq", "ne", "ge", "gt", "le", "lt"),
    *("div", "floor_divide", "remainder", "fmod", "hypot", "atan2", "logaddexp"),
    *("cosine_similarity", "pairwise_distance"),
)
MANY = ("stack", "hstack", "vstack", "dstack", "column_stack")

FUNCTIONS |= {name: one(name) for name in UNARY}
FUNCTIONS |= {name: one(name, shape=ROWS) for name in ("argmax", "argmin", "argsort", "sort")}  # few ties
FUNCTIONS |= {name: one(name, dim=1) for name in ("amax", "amin", "aminmax")}
FUNCTIONS |= {name: two(name) for name in BINARY}
FUNCTIONS |= {name: Example(lambda s, x, y, name=name: getattr(x, name)()) for name in METHODS}
FUNCTIONS |= {name: Example(lambda s, x, y, name=name: named(name)((x, y))) for name in MANY}
FUNCTIONS |= {
    "block_diag": two("block_diag", ROWS),
    "dropout1d": one("dropout1d", training=False, shape=SEQUENCE),
    "dropout3d": one("dropout3d", training=False, shape=VOLUME),
    "feature_dropout": one("feature_dropout", 0.5, False),
    "dropout": Example(lambda s, x, y: F.dropout(x, training=False)),
    "dropout2d": Example(lambda s, x, y: F.dropout2d(x, training=False)),
    "alpha_dropout": Example(lambda s, x, y: F.alpha_dropout(x, training=False)),
}

MODULES: dict[type[nn.Module], Example] = {
    nn.Conv1d: module(lambda: nn.Conv1d(4, 6, 3), SEQUENCE),
    nn.Conv2d: module(lambda: nn.Conv2d(4, 6, 3)),
    nn.Conv3d: module(lambda: nn.Conv3d(4, 6, (1, 3, 3)), VOLUME),
    nn.ConvTranspose1d: module(lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), SEQUENCE),
    nn.ConvTranspose2d: module(lambda: nn.ConvTranspose2d(4, 6, 3, stride=2)),
    nn.ConvTranspose3d: module(lambda: nn.ConvTranspose3d(4, 6, 2), VOLUME),
    nn.Linear: module(lambda: nn.Linear(4, 5), ROWS),
    Acosh: Example(lambda s, x, y: s.m(x), children={"m": Acosh}, low=1.1),
    nn.Threshold: module(lambda: nn.Threshold(0.3, 0.25)),
    nn.Softmax: module(lambda: nn.Softmax(-1)),
    nn.Softmin: module(lambda: nn.Softmin(-1)),
    nn.LogSoftmax: module(lambda: nn.LogSoftmax(-1)),
    nn.LayerNorm: module(lambda: nn.LayerNorm(6)),
    nn.RMSNorm: module(lambda: nn.RMSNorm(6)),
    nn.GroupNorm: module(lambda: nn.GroupNorm(2, 4)),
    nn.InstanceNorm1d: module(lambda: nn.InstanceNorm1d(4), SEQUENCE),
    nn.InstanceNorm2d: module(lambda: nn.InstanceNorm2d(4)),
    nn.InstanceNorm3d: module(lambda: nn.InstanceNorm3d(4), VOLUME),
    nn.BatchNorm1d: module(lambda: nn.BatchNorm1d(4), SEQUENCE),
    nn.BatchNorm2d: module(lambda: nn.BatchNorm2d(4)),
    nn.BatchNorm3d: module(lambda: nn.BatchNorm3d(4), VOLUME),
    nn.SyncBatchNorm: module(lambda: nn.SyncBatchNorm(4)),
    nn.LocalResponseNorm: module(lambda: nn.LocalResponseNorm(2)),
    nn.LPPool2d: module(lambda: nn.LPPool2d(2, 2)),
    nn.Fold: module(lambda: nn.Fold((3, 5), 2), (2, 4, 8)),
    nn.AvgPool1d: module(lambda: nn.AvgPool1d(2), SEQUENCE),
    nn.AvgPool2d: module(lambda: nn.AvgPool2d(2)),
    nn.AvgPool3d: module(lambda: nn.AvgPool3d(2), VOLUME),
    nn.AdaptiveAvgPool1d: module(lambda: nn.AdaptiveAvgPool1d(2), SEQUENCE),
    nn.AdaptiveAvgPool2d: module(lambda: nn.AdaptiveAvgPool2d(2)),
    nn.AdaptiveAvgPool3d: module(lambda: nn.AdaptiveAvgPool3d(1), VOLUME),
    nn.Embedding: Example(lambda s, x, y: s.m(INDEX) * x, ROWS, {"m": lambda: nn.Embedding(5, 4)}),
}


def example_of(entry: OpEntry) -> Example | None:
    """The functional call; a table of numbers needs no other arguments than `x`."""
    found = FUNCTIONS.get(entry.name)
    return one(entry.name) if found is None and entry.kind is OpKind.LUT else found


def module_example_of(cls: type[nn.Module]) -> Example | None:
    """The call of a module; one without arguments needs none."""
    found = MODULES.get(cls)
    if found is None:
        try:
            cls()
        except TypeError:
            return None
        return module(cls)
    return found


STUBS = frozenset(entry.name for entry in ENTRIES if entry.kind in (OpKind.QUANT, OpKind.DEQUANT))
ONLY_MODULES = STUBS | {"identity"}  # no torch function goes by their name

CALLS: dict[str, tuple[OpEntry, Example]] = {
    **{
        entry.name: (entry, example)
        for entry in ENTRIES
        if entry.name not in ONLY_MODULES and (example := example_of(entry)) is not None
    },
    **{
        f"{entry.name} {cls.__name__}": (entry, example)
        for entry in ENTRIES
        if entry.name not in STUBS
        for cls in entry.modules
        if (example := module_example_of(cls)) is not None
    },
}
