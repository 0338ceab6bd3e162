"""How a quantizer shall be made, as a value."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nashquant.dtype import DType, qint8
from nashquant.quantization.observer import ObserverBase

if TYPE_CHECKING:
    from .cast import Quantizer

__all__ = ["FakeQuantizeSpec"]


@dataclass(frozen=True, repr=False)
class FakeQuantizeSpec:
    """What `FakeQuantize.with_args` gives: call it to make the quantizer. Frozen, hashable, comparable,
    printable.

    >>> from nashquant.dtype import qint16
    >>> from nashquant.quantization.fake_quantize import FakeQuantize
    >>> from nashquant.quantization.observer import MinMaxObserver
    >>> spec = FakeQuantize.with_args(observer=MinMaxObserver, dtype=qint16)
    >>> spec.replace(averaging_constant=0.0)
    FakeQuantize.with_args(observer=MinMaxObserver, averaging_constant=0.0, dtype=qint16)
    >>> spec().dtype
    qint16

    Attributes:
        fake_quantize: the class of the quantizer.
        observer: the class of its observer; None if it has none (FakeCast).
        arguments: all other arguments, sorted by name. `kwargs` is the same as a dict.
    """

    fake_quantize: type[Quantizer]
    observer: type[ObserverBase] | None
    arguments: tuple[tuple[str, Any], ...] = field(default=())

    @classmethod
    def of(
        cls, fake_quantize: type[Quantizer], observer: type[ObserverBase] | None, arguments: Mapping[str, Any]
    ) -> FakeQuantizeSpec:
        """The spec with these arguments, which are tried at once: a mistake is an error where it was made."""
        frozen = tuple(sorted((name, _frozen(value)) for name, value in arguments.items()))
        spec = cls(fake_quantize, observer, frozen)
        return _tried(spec, repr(spec))

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments without the observer."""
        return dict(self.arguments)

    @property
    def dtype(self) -> DType:
        """The integer type of the grid, or torch.float16."""
        dtype: DType = self.kwargs.get("dtype", qint8)
        return dtype

    def replace(self, **changes: Any) -> FakeQuantizeSpec:
        """The same with some arguments changed; `observer` may be one of them."""
        observer = changes.pop("observer", self.observer)
        return type(self).of(self.fake_quantize, observer, {**self.kwargs, **changes})

    def __call__(self, **changes: Any) -> Quantizer:
        """A new quantizer, with some arguments changed: `spec(channel_len=4)`."""
        observer = {} if self.observer is None else {"observer": self.observer}
        return self.fake_quantize(**{**observer, **self.kwargs, **changes})

    def __repr__(self) -> str:
        observer = [] if self.observer is None else [f"observer={self.observer.__name__}"]
        shown = ", ".join(observer + [f"{name}={value!r}" for name, value in self.arguments])
        return f"{self.fake_quantize.__name__}.with_args({shown})"


@functools.lru_cache(maxsize=256)  # a model has a thousand ops, and they ask for a handful of specs
def _tried(spec: FakeQuantizeSpec, _: str) -> FakeQuantizeSpec:  # the text too: 1 == 1.0 == True, but one is no number
    spec()
    return spec


def _frozen(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _frozen(value.tolist())
    if isinstance(value, Mapping):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return value
