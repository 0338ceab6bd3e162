"""Other people's fake quantizers, where they are installed; none of them is needed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

FakeQuantize = Callable[[Tensor], Tensor]


def _torchao(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    primitives = importlib.import_module("torchao.quantization.quant_primitives")
    step, zero = torch.tensor([scale]), torch.tensor([0], dtype=torch.int32)
    return lambda x: primitives._fake_quantize_affine(x, x.shape, step, zero, torch.int8, qmin, qmax)


def _brevitas(scale: float, qmin: int, qmax: int) -> FakeQuantize:
    quant = importlib.import_module("brevitas.core.quant")
    clamp = importlib.import_module("brevitas.core.function_wrapper")
    bits = torch.tensor(float((qmax - qmin + 1).bit_length() - 1))
    int_quant: Any = quant.IntQuant(
        narrow_range=False,
        signed=True,
        input_view_impl=clamp.Identity(),
        float_to_int_impl=clamp.RoundSte(),
        tensor_clamp_impl=clamp.TensorClamp(),
    )
    step, zero = torch.tensor(scale), torch.tensor(0.0)
    return lambda x: int_quant(step, zero, bits, x)


# nncf, aimet-torch, nvidia-modelopt and amd-quark have no entry yet: add theirs here, after running it.
PACKAGES: dict[str, Callable[[float, int, int], FakeQuantize]] = {"torchao": _torchao, "brevitas": _brevitas}
NOTE = "differentiable torch operators behind a Python layer"


def found(scale: float, qmin: int, qmax: int, absent: Callable[[str, str], None]) -> dict[str, FakeQuantize]:
    """Those that are installed; the others are told to `absent`."""
    rivals = {}
    for name, make in PACKAGES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they warn of on import is theirs
                rivals[name] = make(scale, qmin, qmax)
        except ImportError as error:
            absent(name, f"not installed ({error.name or error})")
    return rivals


def close(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """They divide by the scale where numerics.md multiplies, so a tie may go the other way: one step, rarely."""
    for one, other in zip(ours, theirs, strict=True):
        assert float(((one - other).detach().abs() > 1e-4).float().mean()) < 1e-3
