"""Like EfficientNet (Tan and Le, 2019): SiLU, squeeze and excitation, stochastic depth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


def conv_bn(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.adaptive_avg_pool2d(x, 1)
        gate = self.fc2(F.silu(self.fc1(gate), inplace=True))
        return x * torch.sigmoid(gate)


class StochasticDepth(nn.Module):
    """Drops whole examples of a residual branch in training: random, and drawn by the shape of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(0.8)
        return x * keep.div_(0.8)


class MBConv(nn.Module):
    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        hidden = channels_in * expand
        self.expand, self.act = conv_bn(channels_in, hidden, 1), nn.SiLU(inplace=True)
        self.depthwise, self.se = conv_bn(hidden, hidden, kernel, stride, hidden), SqueezeExcitation(hidden, 4)
        self.project, self.drop = conv_bn(hidden, channels, 1), StochasticDepth()
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depthwise(self.act(self.expand(x))))
        y = self.project(self.se(y))
        return x + self.drop(y) if self.residual else y


class EfficientNet(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(*conv_bn(3, 8, 3, 2), nn.SiLU(inplace=True))
        self.blocks = nn.Sequential(MBConv(8, 8, 3, 1), MBConv(8, 12, 5, 2), MBConv(12, 12, 5, 1))
        self.head = nn.Sequential(*conv_bn(12, 48, 1), nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(self.quant(x))))
        return self.dequant(self.classifier(F.dropout(x, 0.2, self.training)))  # type: ignore[no-any-return]
