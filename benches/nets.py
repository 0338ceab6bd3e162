"""Nets without BatchNorm, as `prepare` leaves them after folding it: everybody does the same convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Residual(nn.Module):
    """Two convolutions, and the way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(x + self.conv2(self.relu1(self.conv1(x))))


class ResNetLike(nn.Module):
    """Seven residual blocks, at 32, 64 and 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU())
        self.stage1 = nn.Sequential(Residual(32), Residual(32))
        self.down1 = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU())
        self.stage2 = nn.Sequential(Residual(64), Residual(64))
        self.down2 = nn.Sequential(nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU())
        self.stage3 = nn.Sequential(Residual(128), Residual(128), Residual(128))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(128, 10)
        self.dequant = DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.down1(self.stage1(self.stem(self.quant(x))))
        x = self.stage3(self.down2(self.stage2(x)))
        return self.dequant(self.head(self.flatten(self.pool(x))))


class InvertedResidual(nn.Module):
    """Wide, one filter per channel, narrow; around it where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        wide = channels_in * expand
        self.expand = nn.Sequential(nn.Conv2d(channels_in, wide, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.ReLU6())
        self.project = nn.Conv2d(wide, channels_out, 1)
        self.around = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.around else y


class MobileNetV2Like(nn.Module):
    """Six inverted residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = QuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU6())
        self.blocks = nn.Sequential(
            InvertedResidual(16, 24, 1),
            InvertedResidual(24, 24, 1),
            InvertedResidual(24, 32, 2),
            InvertedResidual(32, 32, 1),
            InvertedResidual(32, 64, 2),
            InvertedResidual(64, 64, 1),
        )
        self.last = nn.Sequential(nn.Conv2d(64, 128, 1), nn.ReLU6())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(128, 10)
        self.dequant = DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.blocks(self.stem(self.quant(x))))
        return self.dequant(self.head(self.flatten(self.pool(x))))


class BasicBlock(nn.Module):
    """Two convolutions, and the way around them, with a convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.around = nn.Conv2d(channels_in, channels, 1, stride) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.around(x))


class ResNet18(nn.Module):
    """ResNet-18 (He et al., 2015) for pictures of 224x224 pixels and 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        stages = [
            nn.Sequential(BasicBlock(narrow, wide, stride), BasicBlock(wide, wide, 1))
            for narrow, wide, stride in widths
        ]
        self.stages, self.pool, self.flatten = nn.Sequential(*stages), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.head(self.flatten(self.pool(self.stages(self.stem(self.quant(x)))))))
