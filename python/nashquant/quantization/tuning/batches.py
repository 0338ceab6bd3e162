"""Some batches of data, and what a model gives on them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nashquant.quantization.fake_quantize import FakeQuantState, Quantizer, set_fake_quantize

__all__ = ["Batch", "Batches", "float_twin", "gathered", "outputs", "relative_error", "run"]

Batches = Iterable[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """The arguments of one call of the model."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def gathered(
    model: nn.Module, batches: Batches, num_batches: int, process: Callable[[Any], Any] | None, who: str
) -> list[Batch]:
    """The first `num_batches` batches, as arguments of `model`.

    A batch, or what `process` makes of it, is a tuple or list of positional arguments, a dict of keyword arguments, or
    the only argument.

    Raises:
        ValueError: `model` has no quantizers; `num_batches` is less than 1; there are no batches.
    """
    if not any(isinstance(module, Quantizer) for module in model.modules()):
        raise ValueError(f"{who} takes what prepare() returns; this {type(model).__name__} has no quantizers")
    if isinstance(num_batches, bool) or not isinstance(num_batches, int) or num_batches < 1:
        raise ValueError(f"{who}: num_batches is {num_batches!r}, expected a whole number of at least 1")
    found = []
    for batch in itertools.islice(batches, num_batches):
        made = batch if process is None else process(batch)
        if isinstance(made, Mapping):
            found.append(Batch((), dict(made)))
        else:
            found.append(Batch(tuple(made) if isinstance(made, (tuple, list)) else (made,), {}))
    if not found:
        raise ValueError(f"{who}: there are no batches")
    return found


def run(model: nn.Module, batch: Batch) -> Any:
    """What the model gives, without gradients."""
    with torch.no_grad():
        return model(*batch.args, **batch.kwargs)


def outputs(model: nn.Module, batches: Sequence[Batch]) -> list[list[Tensor]]:
    """The float tensors the model gives on each batch."""
    return [
        [
            leaf
            for leaf in pytree.tree_leaves(run(model, batch))
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
        ]
        for batch in batches
    ]


def relative_error(given: list[list[Tensor]], wanted: list[list[Tensor]]) -> float:
    """`sum((given - wanted)**2) / sum(wanted**2)` of each output over all batches, summed over the outputs."""
    total = 0.0
    for ys, references in zip(zip(*given, strict=True), zip(*wanted, strict=True), strict=True):
        error = sum((y - reference).double().square().sum().item() for y, reference in zip(ys, references, strict=True))
        size = sum(reference.double().square().sum().item() for reference in references)
        total += error / size if size else error
    return total


def float_twin(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose quantizers do nothing."""
    twin = copy.deepcopy(model).eval()
    set_fake_quantize(twin, FakeQuantState._FLOAT)
    return twin
