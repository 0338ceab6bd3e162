"""`with_args`: how to make an observer or a fake quantizer, to be made later and often."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["PartialWrapper", "with_args", "with_callable_args"]


class PartialWrapper:
    """Makes an object each time it is called; what a QConfig holds.

    >>> from nashquant.compat.torch_ao import MinMaxObserver
    >>> make = MinMaxObserver.with_args(quant_min=0).with_args(quant_max=127)
    >>> make().quant_max
    127

    Attributes:
        p: the `functools.partial` that makes it.
        callable_args: functions to be called for further arguments, each time.
    """

    def __init__(self, p: partial[Any]) -> None:
        self.p = p
        self.callable_args: dict[str, Callable[[], Any]] = {}

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """A new object; `keywords` win over `callable_args`."""
        late = {name: make() for name, make in self.callable_args.items() if name not in keywords}
        return self.p(*args, **keywords, **late)

    def with_args(self, **kwargs: Any) -> PartialWrapper:
        """The same with more arguments."""
        return with_args(self, **kwargs)

    def with_callable_args(self, **kwargs: Callable[[], Any]) -> PartialWrapper:
        """The same with arguments that are computed when an object is made."""
        result = PartialWrapper(self.p)
        result.callable_args = {**self.callable_args, **kwargs}
        return result

    @property
    def __name__(self) -> str:
        # The PT2E flow looks here for "PerChannel".
        return str(self.p.func.__name__)

    # torch.ao compares wrappers of its own class by what they hold, and all others with `==`. Like there,
    # `callable_args` do not count: its prepare functions add one of their own to each module's.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartialWrapper):
            return NotImplemented
        return (self.p.func, self.p.args, self.p.keywords) == (other.p.func, other.p.args, other.p.keywords)

    def __hash__(self) -> int:
        return hash((self.p.func, *self.p.keywords))

    def __repr__(self) -> str:
        return f"{self.p!r}{self.callable_args!r}"


def with_args(maker: Callable[..., Any], **kwargs: Any) -> PartialWrapper:
    """What makes objects by `maker` with these arguments."""
    return PartialWrapper(partial(maker, **kwargs))


def with_callable_args(maker: Callable[..., Any], **kwargs: Callable[[], Any]) -> PartialWrapper:
    """What makes objects by `maker`, with arguments computed each time."""
    return PartialWrapper(partial(maker)).with_callable_args(**kwargs)
