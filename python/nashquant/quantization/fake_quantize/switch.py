"""The one switch of all quantizers, to be thrown inside a forward."""

from __future__ import annotations

__all__ = ["GlobalFakeQuantSwitch"]


class GlobalFakeQuantSwitch:
    """Lets a part of a forward run unrounded, to find the part that quantization hurts.

    While it is off, every `FakeQuantize` of the process gives what it gets, whatever its state; observers go on. Call
    both in the forward of a calibrated model that is evaluated, `disable` where the float part begins and `enable`
    where it ends: what is between is then as in `FakeQuantState._FLOAT`. It is no part of a model: nothing of it is
    saved, and `export` refuses a model while it is off.

    >>> import torch
    >>> from nashquant.quantization.fake_quantize import FakeQuantize
    >>> quantizer = FakeQuantize().eval()
    >>> quantizer.set_qparams(0.5)
    >>> GlobalFakeQuantSwitch.disable()
    >>> quantizer(torch.tensor([0.3]))
    tensor([0.3000])
    >>> GlobalFakeQuantSwitch.enable()
    >>> quantizer(torch.tensor([0.3]))
    tensor([0.5000])

    Attributes:
        enabled: whether quantizers quantize.
    """

    enabled: bool = True

    @classmethod
    def enable(cls) -> None:
        """Has quantizers do what their states say, from here on."""
        GlobalFakeQuantSwitch.enabled = True

    @classmethod
    def disable(cls) -> None:
        """Has quantizers give what they get, from here on."""
        GlobalFakeQuantSwitch.enabled = False
