"""A histogram of everything seen, and the range whose quantization has the least squared error."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.buffers import set_buffer, shaped_like_own
from nashquant.compat.torch_ao.namesakes import join_namesakes
from nashquant.compat.torch_ao.parity import is_exact
from nashquant.quantization.observer import join_ranges

from .bins import MOST_EXACT, Errors, count, least_error_part, stretched
from .qparams import is_per_tensor
from .seen import shows_nothing
from .uniform import UniformQuantizationObserverBase

__all__ = ["HistogramObserver"]


class HistogramObserver(UniformQuantizationObserverBase):
    """Counts what it sees in equal bins over the whole range seen, and cuts off outliers that are not worth their bits.

    >>> observer = HistogramObserver(bins=4, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    >>> _ = observer(torch.tensor([0.0, 1.0, 1.5, 4.0]))
    >>> observer.histogram
    tensor([1., 2., 0., 1.])

    Counts are f32, as in torch.ao, until there are 2**24; then they become f64, and none is lost.

    Args:
        bins: how many.
        dtype: those of `UniformQuantizationObserverBase` from here.
        qscheme: per tensor.
        reduce_range: a bit less.
        quant_min: the least integer.
        quant_max: the greatest integer.
        factory_kwargs: `{"device": ..., "dtype": ...}` for the buffers.
        eps: the least scale.
        is_dynamic: must be False.
        **kwargs: `is_sync_quantize`.

    Raises:
        NotImplementedError: `qscheme` is per channel, or it is dynamic.
    """

    histogram: Tensor
    min_val: Tensor
    max_val: Tensor

    def __init__(
        self,
        bins: int = 2048,
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
        if not is_per_tensor(qscheme):
            raise NotImplementedError(
                "HistogramObserver's qscheme only support torch.per_tensor_symmetric and torch.per_tensor_affine, "
                f"but got: {qscheme}"
            )
        if is_dynamic:
            raise NotImplementedError("HistogramObserver doesn't support dynamic quantization")
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        self.bins = bins
        self.register_buffer("histogram", self.eps.new_zeros(bins))
        self.register_buffer("min_val", torch.full_like(self.eps[0], torch.inf))
        self.register_buffer("max_val", torch.full_like(self.eps[0], -torch.inf))
        self.dst_nbins = 2 ** torch.iinfo(dtype).bits

    def forward(self, x_orig: Tensor) -> Tensor:
        """Counts `x_orig` and gives it back. What is not finite is not counted.

        Warns:
            UserWarning: something was not finite.
        """
        if shows_nothing(x_orig, across_ranks=self.is_sync_quantize):
            return x_orig
        x, low, high = _finite(x_orig.detach())
        if x.numel() == 0 and not self.is_sync_quantize:
            return x_orig
        if self.is_sync_quantize:
            low, high = join_ranges(low, high)
            if low.item() > high.item():
                return x_orig
        if self._is_unseen():
            self.reset_histogram(x, low, high)
            return x_orig
        low, high = torch.minimum(self.min_val, low), torch.maximum(self.max_val, high)
        seen = self._count(x, low, high)
        held = self.histogram
        if not is_exact() and held.dtype == torch.float32 and float(held.sum()) + float(seen.sum()) >= MOST_EXACT:
            held = held.double()
        if not (low == self.min_val and high == self.max_val):
            held = stretched(held, self.min_val, self.max_val, low, high)
        self._keep(held + seen, low, high)
        return x_orig

    def reset_histogram(self, x: Tensor, min_val: Tensor, max_val: Tensor) -> None:
        """Forgets what was seen, and counts `x` over `min_val ... max_val`.

        Raises:
            AssertionError: these are not one number each.
        """
        if min_val.numel() != 1 or max_val.numel() != 1:
            raise AssertionError("histogram min/max values must be scalar.")
        self._keep(self._count(x, min_val, max_val), min_val, max_val)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # as torch.ao has it
        """Scale and zero point, `[1]` each, of the range with the least error.

        Warns:
            UserWarning: nothing was observed; scale 1 and zero point 0 then.

        Raises:
            AssertionError: the histogram has not `bins` bins.
        """
        if self.min_val.item() == torch.inf and self.max_val.item() == -torch.inf:
            warnings.warn(
                "must run observer before calling calculate_qparams. Returning default scale and zero point ",
                stacklevel=2,
            )
            device = self.min_val.device.type
            return torch.tensor([1.0], device=device), torch.tensor([0], device=device)
        if self.bins != len(self.histogram):
            raise AssertionError(
                "The number of bins in histogram should be equal to the number of bins supplied while making this "
                "observer"
            )
        return self._calculate_qparams(*self._non_linear_param_search())

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        return least_error_part(self.histogram, self.min_val, self.max_val, self.dst_nbins)

    def _compute_quantization_error(self, next_start_bin: int, next_end_bin: int) -> float:
        # Not asked here, but by those who derive a search of their own from torch.ao's.
        width = (self.max_val.item() - self.min_val.item()) / self.bins
        return Errors(self.histogram, width, self.dst_nbins)(next_start_bin, next_end_bin)

    def _is_unseen(self) -> bool:
        return self.min_val.item() == torch.inf or self.max_val.item() == -torch.inf

    def _count(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        counts = count(x, self.bins, low, high) if x.numel() else self.histogram.new_zeros(self.bins)
        if self.is_sync_quantize and dist.is_available() and dist.is_initialized():
            counts = counts.double()
            dist.all_reduce(counts)
            if counts.sum() < MOST_EXACT:
                counts = counts.float()
        return counts.to(self.histogram.device)

    def _keep(self, counts: Tensor, low: Tensor, high: Tensor) -> None:
        if not is_exact() and counts.dtype == torch.float64 != self.histogram.dtype and counts.sum() >= MOST_EXACT:
            self.histogram = self.histogram.double()
        for name, value in (("histogram", counts), ("min_val", low), ("max_val", high)):
            set_buffer(self, name, value)

    def extra_repr(self) -> str:
        """The range."""
        return f"min_val={self.min_val}, max_val={self.max_val}"

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name, nothing in (("min_val", torch.inf), ("max_val", -torch.inf)):
            loaded = state_dict.get(prefix + name)
            if isinstance(loaded, Tensor) and loaded.shape == (0,):  # as versions 1 and 2 had it
                state_dict[prefix + name] = loaded.new_full((), nothing)
        shaped_like_own(self, state_dict, prefix, "min_val", "max_val")
        counts = state_dict.get(prefix + "histogram")
        if isinstance(counts, Tensor) and counts.dtype == torch.float64:
            self.histogram = self.histogram.double()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _finite(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`x` without infinities, and without NaN, and its ends; half precision as f32, since torch counts no other."""
    if not is_exact() and x.dtype in (torch.bfloat16, torch.float16):
        x = x.float()
    low, high = _ends(x)
    if low == -torch.inf or high == torch.inf:
        warnings.warn("torch.inf detected in input tensor, ignoring input", stacklevel=3)
        x = x[x.abs() != torch.inf]
        low, high = _ends(x)
    if not is_exact() and low.isnan():
        warnings.warn("NaN detected in input tensor, ignoring it", stacklevel=3)
        x = x[x.isfinite()]
        low, high = _ends(x)
    return x, low, high


def _ends(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.numel() == 0:
        return x.new_full((), torch.inf), x.new_full((), -torch.inf)
    return ops.min_max_per_tensor(x) if x.dtype == torch.float32 else torch.aminmax(x)


join_namesakes(HistogramObserver)
