"""The switch between torch.ao with its known faults mended, and torch.ao exactly."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self

__all__ = ["exact_parity", "is_exact"]

_exact = False


def is_exact() -> bool:
    """Whether everything here computes what torch.ao computes, its faults included."""
    return _exact


class exact_parity:
    """Makes this process do exactly what torch.ao does, where it is known to be broken too; for comparing.

    A switch if called, and a context that puts the switch back:

    >>> with exact_parity():
    ...     is_exact()
    True
    >>> is_exact()
    False

    Everything it changes is listed in docs/torch_ao.md. Fake quantization then runs in torch's own operators.
    """

    def __init__(self, enabled: bool = True) -> None:
        global _exact
        self._before = _exact
        _exact = enabled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _exact
        _exact = self._before
