"""What every fake quantizer is: two switches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor

from nashquant.compat.torch_ao.drop_in import DropIn
from nashquant.compat.torch_ao.factory import PartialWrapper, with_args
from nashquant.compat.torch_ao.namesakes import join_namesakes

__all__ = ["FakeQuantizeBase"]


class FakeQuantizeBase(ABC, DropIn):
    """Observes and fake-quantizes in `forward`, each if it is switched on.

    The switches are buffers, for the state_dict and for DDP. They are read when a tensor comes by; but a compiler or an
    exporter takes what the last `enable_...`, `disable_...`, `load_state_dict` or eager call left, since reading a
    buffer would end its graph.
    """

    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fake_quant_enabled", torch.tensor([1], dtype=torch.uint8))
        self.register_buffer("observer_enabled", torch.tensor([1], dtype=torch.uint8))
        self._quantizes, self._observes = True, True

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observes and fake-quantizes `x`."""

    @abstractmethod
    def calculate_qparams(self, **kwargs: Any) -> Any:
        """Scale and zero point."""

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Rounds what comes to the grid."""
        self.fake_quant_enabled[0] = 1 if enabled else 0
        self._quantizes = bool(enabled)

    def disable_fake_quant(self) -> None:
        """Lets everything pass as it is."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Lets the observer look at what comes."""
        self.observer_enabled[0] = 1 if enabled else 0
        self._observes = bool(enabled)

    def disable_observer(self) -> None:
        """Keeps the scale as it is."""
        self.enable_observer(False)

    def read_switches(self) -> None:
        """Takes what the buffers say, where somebody wrote to them."""
        if torch.compiler.is_compiling():
            return
        # Past `Module.__getattr__` and `__setattr__`, which take longer than the kernel does for 1K elements.
        own = cast("dict[str, Tensor]", self._buffers)
        observer_enabled, fake_quant_enabled = own["observer_enabled"], own["fake_quant_enabled"]
        if not observer_enabled.is_meta:
            self.__dict__["_observes"] = observer_enabled.item() == 1
            self.__dict__["_quantizes"] = fake_quant_enabled.item() == 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.read_switches()

    @classmethod
    def with_args(cls, **kwargs: Any) -> PartialWrapper:
        """How to make one with these arguments, for a QConfig."""
        return with_args(cls, **kwargs)


join_namesakes(FakeQuantizeBase)
