"""A network to be taken from float to ONNX: how it is made, and what goes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

__all__ = ["Network", "closeness", "difference", "tensors"]


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        make: gives the model, with random weights.
        inputs: batch size -> the positional inputs, random.
        more: the inputs of other ways through its forward, where one run does not pass all calls.
        shares: whether calls of different ranges share scales: calibration must then remember all it saw.
        trains_otherwise: whether its forward makes calls in train mode that it does not make in eval mode.
        exported: what an export is given; a branch on data must be decided there.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Any, ...]]
    more: tuple[Callable[[int], tuple[Any, ...]], ...] = ()
    shares: bool = False
    trains_otherwise: bool = False
    exported: Callable[[int], tuple[Any, ...]] | None = None

    def trained(self) -> nn.Module:
        """The float model in eval mode. Its batch norms have gains and shifts, and statistics that fit the inputs."""
        torch.manual_seed(0)
        model = self.make()
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
            norm.momentum = None  # the mean over all batches
        with torch.no_grad():
            for _ in range(2 if norms else 0):
                for inputs in self.ways(8):
                    model.train()(*inputs)
        for norm in norms:
            norm.momentum = 0.1
        return model.eval()

    def ways(self, batch: int) -> list[tuple[Any, ...]]:
        """Inputs for each way through forward."""
        return [make(batch) for make in (self.inputs, *self.more)]


def tensors(outputs: Any) -> list[Tensor]:
    """All tensors in what a model gives, dataclasses included, in order."""
    if hasattr(outputs, "__dataclass_fields__"):
        outputs = vars(outputs)
    leaves = pytree.tree_leaves(outputs, is_leaf=lambda leaf: hasattr(leaf, "__dataclass_fields__"))
    return [
        tensor
        for leaf in leaves
        for tensor in (tensors(leaf) if hasattr(leaf, "__dataclass_fields__") else [leaf])
        if isinstance(tensor, Tensor)
    ]


def closeness(given: Any, expected: Any) -> float:
    """The least signal-to-noise ratio among the outputs, in dB: `10·log10(Σ y² / Σ (y - ŷ)²)`."""
    ratios = []
    for y, wanted in zip(tensors(given), tensors(expected), strict=True):
        y, wanted = y.detach().double(), wanted.detach().double()
        ratios.append(float(10 * torch.log10(wanted.square().sum() / (y - wanted).square().sum())))
    return min(ratios)


def difference(given: Any, expected: Any) -> float:
    """The largest difference among the outputs, over the largest value of that output; 0 only if all bits agree."""
    largest = 0.0
    for y, wanted in zip(tensors(given), tensors(expected), strict=True):
        if not torch.equal(y, wanted):
            largest = max(largest, float(((y - wanted).abs().max() / wanted.abs().max()).detach()))
    return largest
