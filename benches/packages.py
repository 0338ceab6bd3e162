"""Other people's fake quantizers: the same grid, differentiable, as each package's own modules call it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

FakeQuantize = Callable[[Tensor], Tensor]


class Package(NamedTuple):
    """How to make its fake quantizer of (scale, qmin, qmax), and what it does less or more than ours."""

    make: Callable[[float, int, int], FakeQuantize]
    note: str
    has_mask: bool = True


def _torchao(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    primitives = importlib.import_module("torchao.quantization.quant_primitives")
    step, zero = torch.tensor([scale]), torch.tensor([0], dtype=torch.int32)
    return lambda x: primitives._fake_quantize_affine(x, x.shape, step, zero, torch.int8, qmin, qmax)


def _brevitas(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    quant = importlib.import_module("brevitas.core.quant")
    parts = importlib.import_module("brevitas.core.function_wrapper")
    bits = torch.tensor(float((qmax - qmin + 1).bit_length() - 1))
    int_quant: Any = quant.IntQuant(
        narrow_range=False,
        signed=True,
        input_view_impl=parts.Identity(),
        float_to_int_impl=parts.RoundSte(),
        tensor_clamp_impl=parts.TensorClamp(),
    )
    step, zero = torch.tensor(scale), torch.tensor(0.0)
    return lambda x: int_quant(step, zero, bits, x)


def _nncf(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", "0")  # its first compilation may take longer than a minute
    functions = importlib.import_module("nncf.torch.quantization.quantize_functions")
    end = torch.tensor([scale * qmax])
    return lambda x: functions.symmetric_quantize(x, qmax - qmin + 1, qmin, qmax, end, 0.0)


def _aimet(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    affine = importlib.import_module("aimet_torch.quantization.affine")
    step, zero = torch.tensor([scale]), torch.tensor([0.0])
    return lambda x: affine.quantize_dequantize(x, step, zero, qmin=qmin, qmax=qmax)


def _modelopt(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    functions = importlib.import_module("modelopt.torch.quantization.tensor_quant")
    end, bits = torch.tensor(scale * qmax), (qmax - qmin + 1).bit_length() - 1
    return lambda x: functions.fake_tensor_quant(x, end, None, bits, False, False)


def _quark(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    kernel = importlib.import_module("quark.torch.kernel")
    half_even, step, zero = 8, torch.tensor([scale]), torch.tensor([0], dtype=torch.int32)
    grid = (step, zero, 1, 1, qmin, qmax, half_even, "per_tensor", None)
    return lambda x: kernel.ScaledFakeQuantizeFunction.apply("int8", x, *grid)


PACKAGES = {
    "torchao": Package(_torchao, "composed of torch's operators"),
    "brevitas": Package(_brevitas, "composed of torch's operators, in modules"),
    "nncf": Package(_nncf, "a C++ extension, where ninja is there to compile it; does more: a gradient of the range"),
    "aimet-torch": Package(_aimet, "composed of torch's operators, in an autograd function"),
    "nvidia-modelopt": Package(_modelopt, "composed of torch's operators on a CPU; the mask is that of x, not rounded"),
    "amd-quark": Package(_quark, "no clip mask: gradients pass where values were clipped, too", has_mask=False),
}


def found(name: str, scale: float, qmin: int, qmax: int) -> tuple[FakeQuantize, str]:
    """Its fake quantizer, and its version with what is to be said of it.

    Raises:
        ImportError: it is not installed here.
    """
    package = PACKAGES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of on import is theirs
        run = package.make(scale, qmin, qmax)
    return run, f"{importlib.metadata.version(name)}; {package.note}"


def agree(name: str) -> Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], None]:
    """Some divide where numerics.md multiplies, so a tie may go the other way, and a mask differ there: rarely."""

    def check(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
        compared = slice(2 if PACKAGES[name].has_mask else 1)
        for one, other in zip(ours[compared], theirs[compared], strict=True):
            assert float(((one - other).detach().abs() > 1e-4).float().mean()) < 2e-3

    return check
