"""Like YOLO: a backbone that splits and joins, a head per scale, and boxes decoded behind the DeQuantStub."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Conv(nn.Module):
    def __init__(self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)
        self.bn, self.act = nn.BatchNorm2d(channels), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class C2f(nn.Module):
    """Splits its channels in two, and joins them with what its bottlenecks made of the second."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2 = Conv(channels, channels), Conv(half * 3, channels)
        self.m = nn.ModuleList(nn.Sequential(Conv(half, half, 3), Conv(half, half, 3)) for _ in range(1))

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(x).chunk(2, 1))
        for bottleneck in self.m:
            y.append(y[-1] + bottleneck(y[-1]))
        return self.cv2(torch.cat(y, 1))  # type: ignore[no-any-return]


class Head(nn.Module):
    """Per scale: boxes and classes in one convolution, split apart; sigmoid of the classes on the chip."""

    def __init__(self, widths: tuple[int, ...], anchors: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.anchors, self.classes = anchors, classes
        self.convs = nn.ModuleList(nn.Conv2d(width, anchors * (4 + classes), 1) for width in widths)

    def forward(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        found = []
        for x, conv in zip(features, self.convs, strict=True):
            batch, _, height, width = x.shape
            y = conv(x).view(batch, self.anchors, 4 + self.classes, height, width).permute(0, 1, 3, 4, 2)
            boxes, scores = y.split([4, self.classes], dim=-1)
            found.append((boxes, torch.sigmoid(scores)))
        return found


class Yolo(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(Conv(3, width, 3, 2), Conv(width, 2 * width, 3, 2), C2f(2 * width))
        self.down = nn.Sequential(Conv(2 * width, 4 * width, 3, 2), C2f(4 * width))
        self.reduce, self.head = Conv(4 * width, 2 * width), Head((2 * width, 4 * width))
        self.weights = nn.Parameter(torch.rand(2) + 0.5)  # a weighted sum of two maps, stacked

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(self.quant(x))
        coarse = self.down(fine)
        up = F.interpolate(self.reduce(coarse), scale_factor=2.0, mode="nearest")
        fine = (torch.stack([fine, up], dim=-1) * self.weights).sum(-1)
        boxes, scores = [], []
        for stride, (raw, score) in zip((4, 8), self.head([fine, coarse]), strict=True):
            boxes.append(decode(self.dequant(raw), stride).flatten(1, 3))
            scores.append(self.dequant(score).flatten(1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


def decode(raw: Tensor, stride: int) -> Tensor:
    """Corners of boxes, in pixels, from offsets and sizes per cell; in float."""
    height, width = raw.shape[2:4]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = (torch.sigmoid(raw[..., :2]) + torch.stack([x, y], -1).to(raw)) * stride
    size = torch.exp(raw[..., 2:].clamp(max=4.0)) * stride
    return torch.cat([centre - size / 2, centre + size / 2], -1)
