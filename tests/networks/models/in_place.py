"""In-place calls of all spellings, on tensors that are read again and on ones that are not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class InPlace(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv1, self.conv2 = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.bn, self.act = nn.BatchNorm2d(width), nn.LeakyReLU(0.1, inplace=True)
        self.gain = nn.Parameter(torch.rand(width, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.quant(x))
        x.relu_()
        y = self.bn(self.conv2(x))
        y += x
        y *= self.gain
        y.sub_(0.25).clamp_(-1.5, 1.5)
        z = self.act(y) + y  # act changes y
        z[:, 0] = x[:, 1]
        F.relu_(z.mul_(0.5))
        return self.dequant(z)  # type: ignore[no-any-return]
