"""One module called several times: a head over a pyramid of maps, one block over its own output, one activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Tower(nn.Module):
    """Convolution, batch norm, ReLU; called once for each level, as the heads of RetinaNet and FCOS are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)) + x)


class SharedHead(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.quant, self.dequant, self.relu = QuantStub(), DeQuantStub(), nn.ReLU(inplace=True)
        self.stem, self.down = nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 3, 2, 1)
        self.tower, self.score = Tower(width), nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [self.relu(self.stem(self.quant(x)))]
        for _ in range(2):
            levels.append(self.relu(self.down(levels[-1])))
        return [self.dequant(self.score(self.tower(self.tower(level)))) for level in levels]
