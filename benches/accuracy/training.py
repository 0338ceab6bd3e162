"""What every recipe does alike: train, look at some images, count what is right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .data import Data

BATCH = 64
CALIBRATION_IMAGES, CALIBRATION_BATCH = 1024, 256

Tick = Callable[[], None]


def train(model: nn.Module, data: Data, epochs: int, lr: float, tick: Tick) -> None:
    """AdamW with a learning rate that falls to zero along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(data.train_y) // BATCH))
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_y)).split(BATCH):
            loss = nn.functional.cross_entropy(model(data.train_x[rows]), data.train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        tick()


@torch.no_grad()
def show(model: nn.Module, data: Data) -> None:
    """The first training images, for observers to look at."""
    for x in data.train_x[:CALIBRATION_IMAGES].split(CALIBRATION_BATCH):
        model(x)


@torch.no_grad()
def accuracy(model: nn.Module, data: Data) -> float:
    """Percent of the test images that `model` names rightly."""
    scores: Tensor = torch.cat([model(x) for x in data.test_x.split(CALIBRATION_BATCH)])
    return 100 * float((scores.argmax(1) == data.test_y).double().mean())
