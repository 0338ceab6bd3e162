"""Forwards that go another way for other inputs: a branch on the values, a branch on the shape, a loop by length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Dynamic(nn.Module):
    """Bright pictures go through one branch, dark ones through another; large ones are halved until they are small."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.bright, self.dark = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.halve = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor, bright: bool | None = None) -> Tensor:
        if bright is None:
            bright = bool(x.mean() > 0)
        y = self.stem(self.quant(x))
        while y.shape[-1] > 8:
            y = F.relu(self.halve(y)) + F.max_pool2d(y, 2)
        y = torch.tanh(self.bright(y)) * 2 if bright else y - F.relu(self.dark(y))
        return self.dequant(self.head(y.mean((2, 3))))  # type: ignore[no-any-return]
