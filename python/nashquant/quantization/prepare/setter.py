"""What a qconfig setter is: something that, shown the recorded ops, says how some of them are quantized."""

from __future__ import annotations

from typing import Any

from torch import nn

from nashquant.quantization.qconfig import QConfig

from .graph import Graph

__all__ = ["QconfigSetterBase"]


class QconfigSetterBase:
    """Base class of setters. A subclass overrides `qconfigs`, or the vendor-shaped `set_qconfig`.

    Attributes:
        by_name: whether the user named single ops. What is impossible is then an error; what a template asks in
            general falls back to what the march can do, and the report says so.
    """

    by_name = False

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """Op name -> how to quantize it, for the ops this setter speaks for.

        Raises:
            ValueError: the setter names an op that isn't there.
        """
        return {}

    def set_qconfig(
        self,
        model: nn.Module,
        example_inputs: tuple[Any, ...],
        example_kw_inputs: dict[str, Any] | None = None,
    ) -> None:
        """Writes a `qconfig` attribute on the modules of `model` this setter speaks for.

        `model` is a throw-away copy of the float model in which functional calls already have their
        `_generated_...` modules. Does nothing here: prepare asks `qconfigs` first.
        """
