"""What a qconfig setter is: something that, shown the recorded ops, says how some of them are quantized."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from nashquant.quantization.fake_quantize import FakeQuantizeSpec
from nashquant.quantization.qconfig import QConfig

from .graph import Graph

__all__ = ["PARTS", "QconfigSetterBase", "Request"]

PARTS = frozenset({"input", "weight", "output"})


@dataclass(frozen=True)
class Request:
    """What a setter asks for one op.

    Attributes:
        qconfig: its quantizers.
        inputs: what its operands shall be, in their order; None, and what is not listed: as they come. An operand on a
            grid of another dtype is requantized at the op's door. Unlike `qconfig.input`, which is for floats.
        frozen: the parts that are not adjusted. Where the march can't do them, that is an error; elsewhere the
            nearest that it can do is taken, and the report says so.
        adjusts: whether ops that feed this one may be given the dtype it asks for, where nothing else reads them.
    """

    qconfig: QConfig
    inputs: tuple[FakeQuantizeSpec | None, ...] = ()
    frozen: frozenset[str] = frozenset()
    adjusts: bool = False


class QconfigSetterBase:
    """Base class of setters. A subclass overrides `qconfigs`, or the vendor-shaped `set_qconfig`.

    Attributes:
        by_name: whether the user named single ops. What is impossible is then an error; what a template asks in
            general falls back to what the march can do, and the report says so.
        stands_alone: whether no other setter may stand beside it.
        save_dir: folder for qconfig_changelogs.txt and qconfig_dtypes.pt; None: that of prepare.
    """

    by_name = False
    stands_alone = False
    save_dir: str | os.PathLike[str] | None = None

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """Op name -> how to quantize it, for the ops this setter speaks for.

        Raises:
            ValueError: the setter names an op that isn't there.
        """
        return {}

    def requests(self, graph: Graph) -> dict[str, Request]:
        """Op name -> all that is asked for it: its QConfig, and whether it may be adjusted."""
        frozen = PARTS if self.by_name else frozenset()
        return {name: Request(qconfig, frozen=frozen) for name, qconfig in self.qconfigs(graph).items()}

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
