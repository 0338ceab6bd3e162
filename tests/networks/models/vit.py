"""A vision transformer (Dosovitskiy et al., 2021), with attention written in single calls and in one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class Attention(nn.Module):
    """One linear for queries, keys and values; `fused` calls torch's attention, else it is spelled out."""

    def __init__(self, channels: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused, self.scale = heads, fused, (channels // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(batch, length, channels))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, channels: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = Attention(channels, heads, fused)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, fused: bool, channels: int = 32, patch: int = 4, size: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.patch_embed = nn.Conv2d(3, channels, patch, patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, channels) * 0.5)
        self.pos_embed = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, channels) * 0.5)
        self.blocks = nn.ModuleList(Block(channels, 4, fused) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(channels), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(self.quant(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.dequant(self.head(self.norm(x)[:, 0]))  # type: ignore[no-any-return]
