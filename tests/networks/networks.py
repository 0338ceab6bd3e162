"""All networks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .models import (
    bev,
    checkpointed,
    dynamic,
    efficientnet,
    in_place,
    mobilenet,
    nested,
    recurrent,
    resnet,
    shared,
    tied,
    transformer,
    unet,
    vit,
    yolo,
)
from .network import Network

__all__ = ["NETWORKS"]


def pictures(size: int = 32, channels: int = 3, shift: float = 0.0) -> Callable[[int], tuple[Tensor, ...]]:
    """Batch size -> noise of that size."""
    return lambda batch: (torch.randn(batch, channels, size, size) + shift,)


def _padding(batch: int, length: int) -> Tensor:
    """True where a sequence has ended: each has its own length, at least half of `length`."""
    ends = torch.randint(length // 2, length + 1, (batch, 1))
    return torch.arange(length) >= ends


def _sequences(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 9, 32), _padding(batch, 9)


def _two_sequences(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(batch, 5, 32), torch.randn(batch, 9, 24), _padding(batch, 9)


def _pictures_and_places(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 3, 32, 32), torch.rand(batch, 8, 8, 2) * 2 - 1


def _dict(batch: int) -> tuple[dict[str, Tensor]]:
    return ({"picture": torch.randn(batch, 3, 12, 12), "speed": torch.randn(batch, 2)},)


def _words(batch: int) -> tuple[Tensor]:
    return (torch.randint(0, 20, (batch, 7)),)


NETWORKS: dict[str, Network] = {
    "ResNet-18": Network(resnet.ResNet18, pictures()),
    "MobileNetV2": Network(mobilenet.MobileNetV2, pictures()),
    "EfficientNet": Network(efficientnet.EfficientNet, pictures(), trains_otherwise=True),
    "ViT": Network(lambda: vit.ViT(fused=False), pictures(16)),
    "ViT fused": Network(lambda: vit.ViT(fused=True), pictures(16)),
    "Encoder": Network(lambda: transformer.Encoder(norm_first=False), _sequences),
    "Encoder first": Network(lambda: transformer.Encoder(norm_first=True), _sequences),
    "Cross": Network(transformer.CrossAttention, _two_sequences),
    "U-Net": Network(unet.UNet, pictures(18)),
    "YOLO": Network(yolo.Yolo, pictures()),
    "BEV": Network(bev.BirdsEyeView, _pictures_and_places),
    "Recurrent": Network(recurrent.Recurrent, lambda batch: (torch.randn(batch, 3, 8),), shares=True),
    "Dynamic": Network(
        dynamic.Dynamic,
        pictures(16, shift=0.5),
        more=(pictures(16, shift=-0.5), pictures(32, shift=0.5)),
        shares=True,
        exported=lambda batch: (torch.randn(batch, 3, 16, 16), True),
    ),
    "Shared": Network(shared.SharedHead, pictures(16), shares=True),
    "Nested": Network(nested.Nested, _dict),
    "In place": Network(in_place.InPlace, pictures(8)),
    "Checkpointed": Network(lambda: checkpointed.Checkpointed(reentrant=False), pictures(8)),
    "Tied": Network(tied.Tied, _words),
}
