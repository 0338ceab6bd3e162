"""What the observers of evenly spaced grids share: the grid, `eps`, and how old checkpoints are read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.namesakes import join_namesakes

from .base import ObserverBase
from .qparams import check_range, choose_qparams, choose_range

__all__ = ["UniformQuantizationObserverBase"]

_QSCHEMES = (
    torch.per_tensor_affine,
    torch.per_tensor_symmetric,
    torch.per_channel_affine,
    torch.per_channel_symmetric,
    torch.per_channel_affine_float_qparams,
)
_DTYPES = (
    torch.qint8,
    torch.quint8,
    torch.quint4x2,
    torch.qint32,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.float8_e5m2,
    torch.float8_e4m3fn,
    torch.uint16,
)


class UniformQuantizationObserverBase(ObserverBase):
    """The base of the observers that choose a scale.

    Args:
        dtype: the integer type, as a torch dtype.
        qscheme: symmetric or affine, per tensor or per channel.
        reduce_range: a bit less, as the kernels of old x86 want it.
        quant_min: the least integer, if not that of `dtype`.
        quant_max: the greatest integer, if not that of `dtype`.
        factory_kwargs: `{"device": ..., "dtype": ...}` for the buffers.
        eps: the least scale.
        is_dynamic: stands for quantization whose scale is chosen at run time.
        **kwargs: `is_sync_quantize=True` joins what all processes of `torch.distributed` see; torch.ao has no such
            thing.

    Raises:
        AssertionError: a scheme, a dtype or a range that there is not.
    """

    # Version 2 made `eps` a buffer. Version 3 made the empty range of a histogram 0-d, and called the buffers of the
    # per channel observers `min_val` and `max_val` instead of `min_vals` and `max_vals`.
    _version = 3

    eps: Tensor

    def __init__(
        self,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: Mapping[str, Any] | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        is_sync_quantize = bool(kwargs.pop("is_sync_quantize", False))
        super().__init__(dtype=dtype, is_dynamic=is_dynamic, **kwargs)
        self.is_sync_quantize = is_sync_quantize
        self.qscheme = qscheme
        if reduce_range:
            warnings.warn(
                "Please use quant_min and quant_max to specify the range for observers. "
                "reduce_range will be deprecated in a future release of PyTorch.",
                stacklevel=2,
            )
        self.reduce_range = reduce_range
        self.register_buffer("eps", torch.tensor([eps], **_for_tensors(factory_kwargs)))
        if qscheme not in _QSCHEMES:
            raise AssertionError(
                "Default Observer only works for per_tensor_affine, per_tensor_symmetric, per_channel_affine, "
                "per_channel_symmetric and per_channel_float_qparams quantization scheme"
            )
        if dtype not in _DTYPES:
            raise AssertionError(f"Default Observer only works for {_DTYPES} data type")
        self.has_customized_qrange = quant_min is not None and quant_max is not None
        self.quant_min, self.quant_max = choose_range(quant_min, quant_max, dtype, reduce_range)

    def _calculate_qparams(self, min_val: Tensor, max_val: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of a range, by this observer's scheme."""
        return choose_qparams(
            min_val,
            max_val,
            quant_min=self.quant_min,
            quant_max=self.quant_max,
            dtype=self.dtype,
            qscheme=self.qscheme,
            eps=self.eps,
            middle=self._middle(),
        )

    def _middle(self) -> int:
        """The zero point of a symmetric grid."""
        if self.dtype in (torch.quint8, torch.uint8):
            return (self.quant_min + self.quant_max) // 2 if self.has_customized_qrange else 128
        return 2**15 if self.dtype == torch.uint16 else 0

    def _validate_qmin_qmax(self, quant_min: int, quant_max: int) -> None:
        check_range(quant_min, quant_max)

    def reset_min_max_vals(self) -> None:
        """Forgets what was observed, where an observer can."""
        raise NotImplementedError("Cannot reset min/max values in the given observer.")

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        if local_metadata.get("version") in (None, 1):
            state_dict[prefix + "eps"] = torch.tensor([torch.finfo(torch.float32).eps])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def _for_tensors(factory_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """`factory_kwargs` as `torch.tensor` takes them; raises TypeError for others."""
    given = None if factory_kwargs is None else dict(factory_kwargs)
    return dict(torch.nn.factory_kwargs(given))  # type: ignore[no-untyped-call]  # torch has no types here


join_namesakes(UniformQuantizationObserverBase)
