"""Several inputs in a dict, outputs in a dict, a tuple and a dataclass, a stub for each; a part in float between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


@dataclass
class Features:
    near: Tensor
    far: Tensor


class Scores(NamedTuple):
    classes: Tensor
    quality: Tensor


class Backbone(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.far = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, x: Tensor) -> Features:
        near = F.relu(self.near(x))
        return Features(near=near, far=F.relu(self.far(near)))


@dataclass
class Found:
    scores: Scores
    maps: dict[str, Tensor]


class Nested(nn.Module):
    """`inputs` holds "picture" (batch, 3, h, w) and "speed" (batch, 2)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.quants = nn.ModuleDict({"picture": QuantStub(), "speed": QuantStub(), "again": QuantStub()})
        self.dequants = nn.ModuleList(DeQuantStub() for _ in range(4))
        self.backbone, self.speed = Backbone(width), nn.Linear(2, width)
        self.classes, self.quality = nn.Linear(width, 4), nn.Linear(width, 1)

    def forward(self, inputs: dict[str, Tensor]) -> Found:
        quantized = {name: self.quants[name](x) for name, x in inputs.items()}
        features = self.backbone(quantized["picture"])
        near, far = self.dequants[0](features.near), self.dequants[1](features.far)
        pooled = far.mean((2, 3)) / (far.std((2, 3)) + 1.0)  # in float, between the stubs of two regions
        x = self.quants["again"](pooled) + self.speed(quantized["speed"])
        scores = Scores(self.dequants[2](self.classes(x)), self.dequants[3](torch.sigmoid(self.quality(x))))
        return Found(scores, {"near": near, "far": far})
