"""Batch norms with quantizers, whose statistics can be frozen while the rest of the model trains."""

from __future__ import annotations

from torch import nn
from typing_extensions import Self

from ._quantized import QuantizedOutput

__all__ = ["BatchNorm", "freeze_bn_stats", "update_bn_stats"]


class BatchNorm(QuantizedOutput):
    """What the twins of torch's batch norms share.

    In train mode it normalizes with the batch's statistics and follows them; frozen, with the running ones.
    """

    stats_frozen: bool = False

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; a frozen batch norm stays in eval mode, its quantizer does not."""
        super().train(mode)
        self.training = mode and not self.stats_frozen
        return self


def freeze_bn_stats(module: nn.Module) -> None:
    """Freezes the statistics of a prepared batch norm, through later calls of `train()` too; else does nothing.

    For a whole model `prepared.apply(freeze_bn_stats)`. Gain and bias train on, unless their `requires_grad` is
    taken away. Named as torch's function of the same use.
    """
    if isinstance(module, BatchNorm):
        module.stats_frozen, module.training = True, False


def update_bn_stats(module: nn.Module) -> None:
    """Takes `freeze_bn_stats` back; statistics move again from the next `train()` on."""
    if isinstance(module, BatchNorm):
        module.stats_frozen = False
