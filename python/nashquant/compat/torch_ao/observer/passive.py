"""Observers that choose nothing: they pass a configuration on, keep a fixed grid, or record."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.buffers import shaped_like_own
from nashquant.compat.torch_ao.namesakes import join_namesakes

from .base import ObserverBase

__all__ = ["FixedQParamsObserver", "NoopObserver", "PlaceholderObserver", "RecordingObserver", "ReuseInputObserver"]


class FixedQParamsObserver(ObserverBase):
    """Has the scale and zero point it was given.

    Raises:
        NotImplementedError: it shall be dynamic.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        scale: float,
        zero_point: int,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_tensor_affine,
        quant_min: int = 0,
        quant_max: int = 255,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        if is_dynamic:
            raise NotImplementedError("FixedQParamsObserver doesn't support dynamic quantization")
        super().__init__(dtype=dtype, is_dynamic=is_dynamic, **kwargs)
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int))
        self.qscheme = qscheme

    def forward(self, X: Tensor) -> Tensor:
        """Gives `X` back."""
        return X

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # as torch.ao has it
        """As given."""
        return self.scale, self.zero_point

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        shaped_like_own(self, state_dict, prefix, "scale", "zero_point")
        super()._load_from_state_dict(state_dict, prefix, *rest)


class _PassesOn(ObserverBase):
    """Gives back what it gets, and knows no grid."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x` back."""
        return x

    def calculate_qparams(self) -> Any:  # type: ignore[override]  # as torch.ao has it
        """Raises Exception: there is nothing to calculate."""
        raise Exception(f"calculate_qparams should not be called for {type(self).__name__}")


class PlaceholderObserver(_PassesOn):
    """Observes nothing, and says which quantization is meant: of float16, or with scales chosen at run time.

    Args:
        dtype: what to quantize to.
        custom_op_name: the operator it is for.
        compute_dtype: deprecated; gives a warning.
        quant_min: the least integer.
        quant_max: the greatest integer.
        qscheme: per tensor and affine, if None.
        eps: the least scale; that of f32, if None.
        is_dynamic: stands for quantization whose scale is chosen at run time.
    """

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        custom_op_name: str = "",
        compute_dtype: torch.dtype | None = None,
        quant_min: int | None = None,
        quant_max: int | None = None,
        qscheme: torch.qscheme | None = None,
        eps: float | None = None,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic)
        self.qscheme = torch.per_tensor_affine if qscheme is None else qscheme
        self.quant_min = quant_min
        self.quant_max = quant_max
        self.eps = torch.finfo(torch.float32).eps if eps is None else eps
        self.custom_op = custom_op_name
        if compute_dtype:
            warnings.warn(
                "Please use `is_dynamic` instead of `compute_dtype`. `compute_dtype` will be deprecated in a future "
                "release of PyTorch.",
                stacklevel=2,
            )

    def extra_repr(self) -> str:
        """What is meant."""
        return f"dtype={self.dtype}, is_dynamic={self.is_dynamic}"


class NoopObserver(_PassesOn):
    """Observes nothing; stands for float16."""

    def __init__(self, dtype: torch.dtype = torch.float16, custom_op_name: str = "") -> None:
        super().__init__(dtype=dtype, is_dynamic=False)
        self.custom_op = custom_op_name


class ReuseInputObserver(_PassesOn):
    """Stands for the observer of the operator's input, as for a reshape."""

    def __init__(self) -> None:
        super().__init__(torch.quint8, is_dynamic=False)


class RecordingObserver(_PassesOn):
    """Keeps a copy of every tensor it sees, in `tensor_val`; for debugging."""

    def __init__(self, dtype: torch.dtype = torch.quint8) -> None:
        super().__init__(dtype=dtype, is_dynamic=False)
        self.tensor_val: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Records `x` and gives it back."""
        self.tensor_val.append(x.clone())
        return x

    def get_tensor_value(self) -> list[Tensor]:
        """All of them."""
        return self.tensor_val


for _cls in (FixedQParamsObserver, NoopObserver, PlaceholderObserver, RecordingObserver, ReuseInputObserver):
    join_namesakes(_cls)
