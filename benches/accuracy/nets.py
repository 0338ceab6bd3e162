"""The nets: small enough to train in seconds, made of what larger ones are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


def conv_bn(channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and its batch norm."""
    conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


class Residual(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv_bn(channels, channels, 3), conv_bn(channels, channels, 3)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(x + self.conv2(self.relu1(self.conv1(x))))


class ConvNet(nn.Module):
    """Two residual blocks, for 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(conv_bn(1, 16, 3), nn.ReLU())
        self.block1 = Residual(16)
        self.down = nn.Sequential(conv_bn(16, 32, 3, stride=2), nn.ReLU())
        self.block2 = Residual(32)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(self.stem(self.quant(x)))
        x = self.pool(self.block2(self.down(x)))
        return self.dequant(self.head(torch.flatten(x, 1)))


class Inverted(nn.Module):
    """Wide, one filter for each channel, narrow; around it where the shape stays."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expand: int = 3) -> None:
        super().__init__()
        wide = channels_in * expand
        self.expand = nn.Sequential(conv_bn(channels_in, wide, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(conv_bn(wide, wide, 3, stride, groups=wide), nn.ReLU6())
        self.project = conv_bn(wide, channels_out, 1)
        self.around = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.around else y


class DepthwiseNet(nn.Module):
    """Four inverted residual blocks, for 28x28 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(conv_bn(1, 12, 3, stride=2), nn.ReLU6())
        self.blocks = nn.Sequential(Inverted(12, 16, 2), Inverted(16, 16, 1), Inverted(16, 24, 2), Inverted(24, 24, 1))
        self.last = nn.Sequential(conv_bn(24, 64, 1), nn.ReLU6())
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.last(self.blocks(self.stem(self.quant(x)))))
        return self.dequant(self.head(torch.flatten(x, 1)))


class Encoder(nn.Module):
    """Attention with four heads, then a perceptron; each after a layer norm, each with a way around."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.softmax = nn.Linear(width, width), nn.Softmax(dim=-1)
        self.wide, self.gelu, self.narrow = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.size).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key, value = self.split(self.query(y)), self.split(self.key(y)), self.split(self.value(y))
        weights = self.softmax(torch.matmul(query, key.transpose(-2, -1)) * self.size**-0.5)
        y = torch.matmul(weights, value).transpose(1, 2).reshape(x.shape)
        x = x + self.out(y)
        return x + self.narrow(self.gelu(self.wide(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Three convolutions make 16 patches of 28x28 pixels, and two encoders look at them."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(conv_bn(1, 16, 3, stride=2), nn.ReLU(), conv_bn(16, 32, 3, stride=2), nn.ReLU())
        self.patches = nn.Conv2d(32, width, 2, 2, padding=1)
        self.place = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.encoders = nn.Sequential(Encoder(width), Encoder(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.patches(self.stem(self.quant(x))), 2).transpose(1, 2)
        x = self.norm(self.encoders(x + self.place))
        return self.dequant(self.head(x.mean(1)))
