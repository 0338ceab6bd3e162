"""torch's own nn.TransformerEncoder as it is, with both masks, and attention between two inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Encoder(nn.Module):
    """nn.TransformerEncoder with a causal mask and a mask of padding."""

    def __init__(self, norm_first: bool, channels: int = 32) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        layer = nn.TransformerEncoderLayer(
            channels, 4, 2 * channels, dropout=0.1, batch_first=True, norm_first=norm_first, activation="gelu"
        )
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(channels), enable_nested_tensor=False)
        self.head = nn.Linear(channels, 8)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        padding = torch.zeros_like(padding, dtype=x.dtype).masked_fill(padding, -torch.inf)
        x = self.encoder(self.quant(x), mask=mask, src_key_padding_mask=padding, is_causal=True)
        return self.dequant(self.head(x))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Queries of one input over keys of another, whose padding is masked; the attention weights are an output too."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.quant_x, self.quant_memory = QuantStub(), QuantStub()
        self.dequant, self.dequant_weights = DeQuantStub(), DeQuantStub()
        self.attention = nn.MultiheadAttention(channels, 4, kdim=24, vdim=24, batch_first=True)
        self.norm, self.linear = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, memory: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        x, memory = self.quant_x(x), self.quant_memory(memory)
        y, weights = self.attention(x, memory, memory, key_padding_mask=padding)
        return self.dequant(self.linear(self.norm(x + y))), self.dequant_weights(weights)
