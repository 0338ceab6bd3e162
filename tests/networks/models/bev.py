"""Like a bird's-eye-view neck: camera features sampled at computed places, whose coordinates deserve int16."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class BirdsEyeView(nn.Module):
    """`pictures` (batch, 3, h, w), `places` (batch, z, x, 2): where each cell lies in the picture, in -1..1."""

    def __init__(self, width: int = 8, cells: int = 8) -> None:
        super().__init__()
        self.quant, self.quant_places, self.dequant = QuantStub(), QuantStub(), DeQuantStub()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, 1, 1)
        )
        self.offsets = nn.Conv2d(2, 2, 3, padding=1)
        self.heights = nn.Parameter(torch.tensor([-0.2, 0.0, 0.2]).view(3, 1, 1, 1))
        self.register_buffer("prior", torch.rand(1, width, cells, cells) * 0.5)
        self.fuse = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, pictures: Tensor, places: Tensor) -> Tensor:
        features = self.backbone(self.quant(pictures))
        places = self.quant_places(places)
        moved = self.offsets(places.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        grid = torch.tanh(places + moved * 0.1)
        seen = [F.grid_sample(features, grid + height, align_corners=False) for height in self.heights]
        view = torch.stack(seen).amax(0) + self.prior
        return self.dequant(self.head(self.fuse(view)))  # type: ignore[no-any-return]
