"""The quantized twins of modules without a weight to quantize: the float module, then a quantizer."""

from __future__ import annotations

from torch import nn

from nashquant import ops
from nashquant.nn import functions

from ._quantized import QuantizedOutput
from .batch_norm import BatchNorm

__all__ = ["twin", "twin_named"]

# What a quantizer can do in its own pass.
_CLAMPS = {nn.ReLU: ops.RELU, nn.ReLU6: ops.RELU6}
_BASES: dict[type[nn.Module], type[QuantizedOutput]] = dict.fromkeys(
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), BatchNorm
)
_twins: dict[type[nn.Module], type[nn.Module]] = {}


def twin(cls: type[nn.Module]) -> type[nn.Module]:
    """The class of the same name that gives the output of `cls` on a grid. Made once for each `cls`.

    >>> twin(nn.Sigmoid) is twin(nn.Sigmoid), issubclass(twin(nn.Sigmoid), nn.Sigmoid)
    (True, True)
    """
    if cls not in _twins:
        home, _, _ = __name__.rpartition(".")
        doc = f"{cls.__name__} with a quantizer."
        members = {"__module__": home, "__doc__": doc, "clamp": _CLAMPS.get(cls)}
        _twins[cls] = type(cls.__name__, (_BASES.get(cls, QuantizedOutput), cls), members)
    return _twins[cls]


def twin_named(name: str) -> type[nn.Module]:
    """The twin of the module of that name in torch.nn or nashquant.nn: so `qat.Sigmoid` is found, by a pickle too.

    Raises:
        AttributeError: there is none.
    """
    cls = getattr(nn, name, None) or getattr(functions, name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise AttributeError(f"neither torch.nn nor nashquant.nn has a module {name!r} to be quantized")
    return twin(cls)
