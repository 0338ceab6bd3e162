"""Tied weights: one tensor is the table of an embedding and the weight of a linear, another is of two convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Tied(nn.Module):
    """A small language model (Press and Wolf, 2017): words in and words out share one matrix."""

    def __init__(self, words: int = 20, channels: int = 16) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.embedding = nn.Embedding(words, channels)
        self.conv1, self.conv2 = (
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.Conv1d(channels, channels, 3, padding=1),
        )
        self.conv2.weight = self.conv1.weight
        self.norm, self.decoder = nn.LayerNorm(channels), nn.Linear(channels, words, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.quant(self.embedding(words)).transpose(1, 2)
        x = x + F.relu(self.conv1(x))
        x = x + F.relu(self.conv2(x))
        return self.dequant(self.decoder(self.norm(x.transpose(1, 2))))  # type: ignore[no-any-return]
