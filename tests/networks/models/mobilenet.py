"""MobileNetV2 (Sandler et al., 2018): inverted residuals, depthwise convolutions, ReLU6, linear bottlenecks."""

from __future__ import annotations

from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


def conv_bn_relu6(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels_in * expand
        layers = [conv_bn_relu6(channels_in, hidden, 1)] if expand != 1 else []
        layers.append(conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden))
        self.conv = nn.Sequential(*layers, nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """`stages`: expansion, channels, blocks, stride."""

    stages = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 12, 2, 2), (6, 16, 2, 1))

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        layers, channels = [conv_bn_relu6(3, 8, 3, 2)], 8
        for expand, width, blocks, stride in self.stages:
            for i in range(blocks):
                layers.append(InvertedResidual(channels, width, stride if i == 0 else 1, expand))
                channels = width
        self.features = nn.Sequential(*layers, conv_bn_relu6(channels, 64, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.quant(x))
        return self.dequant(self.classifier(x.mean([2, 3])))  # type: ignore[no-any-return]
