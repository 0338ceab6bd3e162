"""What no integer stands for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from torch import Tensor

from ._step import Place, Step

__all__ = ["Nans"]


class Nans:
    """Counts the NaN that quantizers meet, by layer: there is no integer for them. Watches a run."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def __call__(self, step: Step, given: Sequence[Tensor], _: Sequence[Tensor]) -> None:
        """Counts those in front of `step`, if it quantizes floats."""
        if step.place is Place.ENTRY and step.target is not None and (number := _nans(given[0])):
            self.found[step.layer] = self.found.get(step.layer, 0) + number

    def warn(self, inputs: Mapping[str, Tensor]) -> None:
        """Says where they were, and which of `inputs` hold some."""
        if not self.found:
            return
        layers = ", ".join(f"{layer!r} ({number})" for layer, number in self.found.items())
        held = {name: number for name, x in inputs.items() if (number := _nans(x))}
        source = ", ".join(f"{name!r} ({number})" for name, number in held.items()) or "none, it was computed"
        warnings.warn(
            f"NaN was quantized, which has no integer (the least is taken), in {layers}; inputs with NaN: {source}",
            stacklevel=4,
        )


def _nans(x: Tensor) -> int:
    """How many of `x` are NaN; one sum, if there are none."""
    return int(x.isnan().sum()) if x.is_floating_point() and bool(x.sum().isnan()) else 0
