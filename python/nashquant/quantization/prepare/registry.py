"""The op registry: what each torch function and module is on the chip. One row makes an op known.

A row says the op's kind (march.py says which dtypes each kind takes), the torch names it goes by, and the
modules that compute it with their quantized twins. What has no row stays float and is reported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.nn import FloatFunctional, float_functional, qat, stubs

from .composite import attention_weights

__all__ = [
    "OpSpec",
    "function_spec",
    "is_float_functional",
    "known_functions",
    "module_spec",
    "qat_class",
    "registered",
]

# What an op does to the grid of its input.
GEMM = "gemm"  # integer products into a wide accumulator; a weight
MATMUL = "matmul"  # the same, both sides activations
ELEMENTWISE = "elementwise"  # saturating integer arithmetic
CLAMP = "clamp"  # exact on integers, but the output deserves a grid of its own
LUT = "lut"  # a table over the input's integers
COMPOSITE = "composite"  # several chip ops; only the output's grid is configured
REDUCE = "reduce"  # exact sum, then requantize
CONCAT = "concat"  # inputs requantized to one grid
EMBEDDING = "embedding"  # a table of vectors, indexed by integers
RESAMPLE = "resample"  # computes between neighbours, keeps its input's grid
SPELLED = "spelled"  # several ops in one call of torch; recorded and redirected one by one
PASS = "pass"  # moves values, keeps its input's grid
CONSTANT = "constant"  # makes a tensor from the shape of another
QUANT = "quant"
DEQUANT = "dequant"


@dataclass(frozen=True)
class OpSpec:
    """One op.

    Attributes:
        name: the word in `_generated_<name>_<i>`, and the torch function of that name, in every spelling.
        kind: one of the kinds above; march rules go by it.
        modules: float classes that compute it; their quantized twins have the same names in `nashquant.nn.qat`.
        aliases: other names of the torch function.
        functions: functions of our own that are this op.
        weight_axis: the weight's axis of output channels; the weight is the second operand of a functional call.
        activations: how many operands, from the first, are activations; None: all. The rest (a weight and bias, the
            gain of a norm, an attention mask) is no tensor of the chip's, or has a quantizer of its own.
    """

    name: str
    kind: str
    modules: tuple[type[nn.Module], ...] = ()
    aliases: tuple[str, ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    weight_axis: int = 0
    activations: int | None = None

    @property
    def makes_grid(self) -> bool:
        """Whether the output has a quantizer of its own."""
        return self.kind not in (PASS, RESAMPLE, DEQUANT, CONSTANT, SPELLED)

    @property
    def redirected(self) -> bool:
        """Whether a functional call of it is redirected to a module that holds or borrows a quantizer."""
        return self.makes_grid or self.kind in (RESAMPLE, SPELLED)


def _rows() -> Iterator[OpSpec]:
    yield OpSpec("quant", QUANT, (stubs.QuantStub,))
    yield OpSpec("dequant", DEQUANT, (stubs.DeQuantStub,))

    yield OpSpec("conv1d", GEMM, (nn.Conv1d,), activations=1)
    yield OpSpec("conv2d", GEMM, (nn.Conv2d,), activations=1)
    yield OpSpec("conv3d", GEMM, (nn.Conv3d,), activations=1)
    yield OpSpec("conv_transpose2d", GEMM, (nn.ConvTranspose2d,), weight_axis=1, activations=1)
    yield OpSpec("linear", GEMM, (nn.Linear,), activations=1)
    for name in ("matmul", "bmm", "mm"):
        yield OpSpec(name, MATMUL)

    yield OpSpec("add", ELEMENTWISE)
    yield OpSpec("add_relu", ELEMENTWISE, functions=(float_functional.add_relu,))
    yield OpSpec("sub", ELEMENTWISE, aliases=("subtract", "rsub"))
    yield OpSpec("mul", ELEMENTWISE, aliases=("multiply",))
    yield OpSpec("div", ELEMENTWISE, aliases=("divide", "true_divide", "truediv"))
    for name in ("maximum", "minimum", "where", "masked_fill", "neg", "abs", "addcmul", "lerp"):
        yield OpSpec(name, ELEMENTWISE)

    yield OpSpec("relu", CLAMP, (nn.ReLU,))
    yield OpSpec("relu6", CLAMP, (nn.ReLU6,))
    yield OpSpec("hardtanh", CLAMP, (nn.Hardtanh,))
    yield OpSpec("clamp", CLAMP, aliases=("clip", "clamp_min", "clamp_max"))

    for name, module in {
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "elu": nn.ELU,
        "celu": nn.CELU,
        "selu": nn.SELU,
        "hardswish": nn.Hardswish,
        "hardsigmoid": nn.Hardsigmoid,
        "leaky_relu": nn.LeakyReLU,
        "logsigmoid": nn.LogSigmoid,
        "softplus": nn.Softplus,
        "softsign": nn.Softsign,
        "tanhshrink": nn.Tanhshrink,
    }.items():
        yield OpSpec(name, LUT, (module,))
    for name in ("exp", "log", "sqrt", "rsqrt", "reciprocal", "square", "pow", "sin", "cos", "erf", "atan"):
        yield OpSpec(name, LUT)

    yield OpSpec("prelu", COMPOSITE, (nn.PReLU,), activations=1)
    yield OpSpec("glu", COMPOSITE, (nn.GLU,))
    yield OpSpec("softmax", COMPOSITE, (nn.Softmax,), functions=(attention_weights,), activations=1)
    yield OpSpec("log_softmax", COMPOSITE, (nn.LogSoftmax,))
    yield OpSpec("layer_norm", COMPOSITE, (nn.LayerNorm,), activations=1)
    yield OpSpec("rms_norm", COMPOSITE, (nn.RMSNorm,), activations=1)
    yield OpSpec("group_norm", COMPOSITE, (nn.GroupNorm,), activations=1)
    yield OpSpec("instance_norm", COMPOSITE, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), activations=1)
    yield OpSpec("batch_norm", COMPOSITE, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), activations=1)
    for name in ("normalize", "atan2", "norm", "var", "std"):
        yield OpSpec(name, COMPOSITE)

    for name in ("mean", "sum", "fold"):
        yield OpSpec(name, REDUCE)
    for n in "123":
        yield OpSpec(f"avg_pool{n}d", REDUCE, (getattr(nn, f"AvgPool{n}d"),))
        yield OpSpec(f"adaptive_avg_pool{n}d", REDUCE, (getattr(nn, f"AdaptiveAvgPool{n}d"),))

    yield OpSpec("cat", CONCAT, aliases=("concat", "concatenate"))
    yield OpSpec("stack", CONCAT)
    for name in ("hstack", "vstack", "dstack"):
        yield OpSpec(name, CONCAT)
    yield OpSpec("embedding", EMBEDDING, (nn.Embedding,))

    yield OpSpec("scaled_dot_product_attention", SPELLED)
    yield OpSpec("multi_head_attention_forward", SPELLED)

    yield OpSpec("interpolate", RESAMPLE, aliases=("upsample", "upsample_nearest", "upsample_bilinear"))
    yield OpSpec("grid_sample", RESAMPLE)
    yield OpSpec("pad", RESAMPLE)  # the value it pads with need not be on the grid

    yield OpSpec("identity", PASS, (nn.Identity,))
    for name in _PASS:
        yield OpSpec(name, PASS)
    for name in _CONSTANT:
        yield OpSpec(name, CONSTANT)


_PASS = (
    *("reshape", "view", "view_as", "reshape_as", "flatten", "unflatten", "ravel", "contiguous", "clone"),
    *("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "adjoint"),
    *("squeeze", "unsqueeze", "expand", "expand_as", "repeat", "repeat_interleave", "tile", "broadcast_to"),
    *("getitem", "select", "narrow", "index_select", "gather", "take_along_dim", "diagonal", "unfold"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "flip", "roll", "rot90"),
    *("topk", "sort", "max", "min", "amax", "amin", "max_pool1d", "max_pool2d", "max_pool3d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "masked_select"),
    # Off the grid while training, by 1/(1 - p); on the chip, and in eval mode, it does nothing.
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
    *(
        "detach",
        "to",
        "cpu",
        "cuda",
        "float",
        "half",
        "double",
        "bfloat16",
        "type_as",
        "requires_grad",
        "data",
        "T",
        "mT",
        "H",
    ),
    *("atleast_1d", "atleast_2d", "atleast_3d"),
)

_CONSTANT = (
    *("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"),
)


# torch.max(x, dim) moves values; torch.max(x, y) joins two grids.
_TWO_OPERANDS = {"max": torch.maximum, "min": torch.minimum}


_ROWS = tuple(_rows())
_BY_MODULE = {module: spec for spec in _ROWS for module in spec.modules}


def _by_function() -> Iterator[tuple[Callable[..., Any], OpSpec]]:
    for spec in _ROWS:
        for function in spec.functions:
            yield function, spec
        for name in (spec.name, *spec.aliases):
            for home in (torch, F, Tensor):
                for spelling in (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__"):
                    found = getattr(home, spelling, None)
                    if isinstance(found, property) or inspect.isgetsetdescriptor(found):
                        yield found.__get__, spec
                    elif callable(found):
                        yield found, spec


_BY_FUNCTION = dict(_by_function())


def registered() -> tuple[OpSpec, ...]:
    """All rows."""
    return _ROWS


def known_functions() -> Collection[Callable[..., Any]]:
    """All spellings of all functions with a row."""
    return _BY_FUNCTION.keys()


def function_spec(
    function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> OpSpec | None:
    """The row of a torch function or method, in any spelling: torch.add, Tensor.add_, Tensor.__radd__, ..."""
    spec = _BY_FUNCTION.get(function)
    if spec is None or spec.name not in _TWO_OPERANDS:
        return spec
    if (len(args) > 1 and isinstance(args[1], Tensor)) or (kwargs and "other" in kwargs):
        return _BY_FUNCTION[_TWO_OPERANDS[spec.name]]
    return spec


def module_spec(module: nn.Module) -> OpSpec | None:
    """The row of a module of exactly a registered class; torch's own stubs count as ours.

    A subclass is user code: its forward is entered and its calls are seen one by one.
    """
    cls = type(module)
    if cls.__module__.startswith("torch.") and cls.__name__ in ("QuantStub", "DeQuantStub"):
        cls = getattr(stubs, cls.__name__)
    return _BY_MODULE.get(cls)


def qat_class(module: nn.Module) -> type[nn.Module] | None:
    """The quantized twin of a registered module's class, if it has one."""
    return getattr(qat, type(module).__name__, None)


def is_float_functional(module: nn.Module) -> bool:
    """Whether `module` is our FloatFunctional or torch's class of the same name."""
    cls = type(module)
    return cls is FloatFunctional or (cls.__name__ == "FloatFunctional" and cls.__module__.startswith("torch."))
