"""The range is that of the data."""

from __future__ import annotations

from torch import Tensor

from .base import ObserverBase

__all__ = ["MinMaxObserver"]


class MinMaxObserver(ObserverBase):
    """Chooses the least and the greatest value of the batch; the cheapest observer, and the one for training.

    Moving average of minimum and maximum, as torch's `MovingAverageMinMaxObserver`: Jacob et al.,
    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018,
    section 3.1.

    >>> import torch
    >>> observer = MinMaxObserver(averaging_constant=0.5)
    >>> for batch in torch.tensor([[-1.0, 2.0], [-3.0, 2.0]]):
    ...     _ = observer(batch)
    >>> observer
    MinMaxObserver(averaging_constant=0.5, min_val=-2, max_val=2)

    Arguments: those of `ObserverBase`.
    """

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """All of it."""
        return low, high
