"""The range with the least squared error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nashquant import ops

from .base import ObserverBase
from .magnitude_histogram import rows_of
from .scale import clamp_range, greatest_magnitude, scale_from_range
from .synchronize import are_several, join_sums

__all__ = ["MSEObserver"]


class MSEObserver(ObserverBase):
    """Chooses the range that quantizes the batch with the least squared error.

    `argmin over i = 1, 1 + stride, ..., 100 of sum((fake_quantize(x, scale(max_abs * i / 100)) - x) ** 2)`;
    the larger one on a tie. A linear search for the clipping threshold, as in Choukroun et al., "Low-bit
    Quantization of Neural Networks for Efficient Inference", ICCVW 2019; the number of steps is the one the
    vendor documents. The range of the batch, clamped to the winning threshold, enters the moving average.

    >>> from nashquant.dtype import qint4
    >>> outlier = torch.cat([torch.linspace(-1, 1, 1000), torch.tensor([1.5])])
    >>> observer = MSEObserver(dtype=qint4)
    >>> _ = observer(outlier)
    >>> observer
    MSEObserver(averaging_constant=0.01, stride=1, min_val=-1, max_val=1.005)

    Args:
        stride: look at every `stride`-th candidate, and always at the last; larger is faster and coarser.
        memory_estimate_ratio: accepted, without effect: the search needs no memory worth estimating.
        pow_quantization: as for all observers; here the third argument, where the vendor has it.
        **common: the other arguments of `ObserverBase`.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        stride: int = 1,
        memory_estimate_ratio: float | None = None,
        pow_quantization: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(pow_quantization=pow_quantization, **common)
        if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= 100:
            raise ValueError(f"stride is {stride!r}, expected an integer from 1 to 100")
        self.stride = stride
        self.memory_estimate_ratio = memory_estimate_ratio

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range of `x`, clamped to the winning threshold."""
        if self.is_sync_quantize and are_several():
            threshold = self._search_across_processes(x, greatest_magnitude(low, high)).reshape(low.shape)
        elif self.per_channel:
            threshold = ops.mse_search_per_channel(
                x, self.ch_axis % x.dim(), self.quant_min, self.quant_max, self.stride
            )
        else:
            threshold = ops.mse_search_per_tensor(x, self.quant_min, self.quant_max, self.stride)
        return clamp_range(low, high, threshold)

    def _search_across_processes(self, x: Tensor, max_abs: Tensor) -> Tensor:
        """The search over what all processes hold: their errors are added, candidate by candidate."""
        rows = rows_of(x, self.ch_axis if self.per_channel else None).float()
        shares = torch.tensor(sorted({*range(1, 101, self.stride), 100}), device=x.device)
        thresholds = max_abs * shares[:, None] / 100
        scales = scale_from_range(-thresholds, thresholds, self.quant_min, self.quant_max)
        zeros = torch.zeros_like(max_abs, dtype=torch.int32)
        errors = []
        for scale in scales:
            y = ops.fake_quantize_per_channel(rows, scale, zeros, 0, self.quant_min, self.quant_max)
            errors.append((y - rows).square().sum(1, dtype=torch.float64))
        summed = join_sums(torch.stack(errors))
        last_least = len(shares) - 1 - summed.flip(0).argmin(0, keepdim=True)
        return torch.where((max_abs * 100).isfinite(), thresholds.gather(0, last_least)[0], max_abs)

    def extra_repr(self) -> str:
        """The averaging constant, the stride and the range."""
        parameters = f"averaging_constant={self.averaging_constant:g}, stride={self.stride}"
        return f"{parameters}, {self.range_repr()}"
