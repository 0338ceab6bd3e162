"""Blocks whose activations are not kept but computed again in backward: torch.utils.checkpoint."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from nashquant.quantization import DeQuantStub, QuantStub

from .resnet import BasicBlock


class Checkpointed(nn.Module):
    """One block is checkpointed by itself, a row of them by torch's function for rows."""

    def __init__(self, reentrant: bool, width: int = 8) -> None:
        super().__init__()
        self.quant, self.dequant, self.reentrant = QuantStub(), DeQuantStub(), reentrant
        self.stem, self.block = nn.Conv2d(3, width, 3, 1, 1), BasicBlock(width, width, 1)
        self.row = nn.Sequential(BasicBlock(width, 2 * width, 2), BasicBlock(2 * width, 2 * width, 1))
        self.head = nn.Conv2d(2 * width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.quant(x))
        if self.training:
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
            x = checkpoint_sequential(self.row, 2, x, use_reentrant=self.reentrant)
        else:
            x = self.row(self.block(x))
        return self.dequant(self.head(x))  # type: ignore[no-any-return]
