"""The quantizers of a model that torch.ao prepared, replaced by ours."""

from __future__ import annotations

import sys
from typing import TypeVar

from torch import nn

from . import fake_quantize, observer
from .fake_quantize import FakeQuantizeBase
from .namesakes import namesakes
from .observer import ObserverBase

__all__ = ["accelerate"]

Model = TypeVar("Model", bound=nn.Module)


def accelerate(model: Model) -> Model:
    """Makes every fake quantizer and observer of torch.ao in `model` ours, in place, and gives `model` back.

    Each stays the object it was, with its buffers, hooks and settings: what refers to it (a traced graph, an optimizer,
    a shared weight quantizer) goes on doing so. Subclasses that others made of torch.ao's classes stay as they are.

    >>> from torch.ao.quantization import FakeQuantize
    >>> model = accelerate(nn.Sequential(FakeQuantize()))
    >>> type(model[0]).__module__
    'nashquant.compat.torch_ao.fake_quantize.module'

    Raises:
        ValueError: there is nothing to replace, and nothing of ours.
    """
    ours = _replacements()
    found = [module for module in model.modules() if type(module) in ours]
    if not found and not any(isinstance(module, FakeQuantizeBase | ObserverBase) for module in model.modules()):
        raise ValueError(
            f"this {type(model).__name__} has no fake quantizer or observer of torch.ao: was it prepared, by "
            "prepare_qat, prepare_qat_fx or prepare_qat_pt2e?"
        )
    for module in found:
        module.__class__ = ours[type(module)]
        if isinstance(module, FakeQuantizeBase):
            module.read_switches()
        elif not hasattr(module, "is_sync_quantize"):
            module.is_sync_quantize = False  # type: ignore[assignment]  # a setting that torch.ao's do not have
    return model


def _replacements() -> dict[type, type]:
    """Ours, for each class of the same name in the torch.ao that is loaded."""
    faces = (sys.modules[observer.__name__], sys.modules[fake_quantize.__name__])
    found = (getattr(face, name) for face in faces for name in face.__all__)
    ours = [cls for cls in found if isinstance(cls, type) and issubclass(cls, FakeQuantizeBase | ObserverBase)]
    return {theirs: cls for cls in ours for theirs in namesakes(cls)}
