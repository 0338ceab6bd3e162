"""Where torch.ao (or torchao's PT2E) is loaded, its `isinstance` takes our classes for those of the same name."""

from __future__ import annotations

import sys
from abc import ABCMeta
from typing import Any

__all__ = ["is_or_is_namesake_of", "join_namesakes", "namesakes"]

# Never imported here: torch.ao is marked for deletion, and torchao is another package.
_HOMES = (
    "torch.ao.quantization.observer",
    "torch.ao.quantization.fake_quantize",
    "torchao.quantization.pt2e.observer",
    "torchao.quantization.pt2e.fake_quantize",
)
_ours: dict[str, type] = {}
_joined: set[tuple[str, str]] = set()


def join_namesakes(cls: type | None = None) -> None:
    """Registers our classes as virtual subclasses of their namesakes, where these are loaded by now.

    Done when a class is defined and whenever an object is made: torch.ao may be imported after us.

    Args:
        cls: one more of ours.
    """
    if cls is not None:
        _ours[cls.__name__] = cls
    for home in _HOMES:
        module = sys.modules.get(home)
        if module is None:
            continue
        for name, mine in _ours.items():
            theirs = getattr(module, name, None)
            if (home, name) not in _joined and isinstance(theirs, ABCMeta):
                theirs.register(mine)
                _joined.add((home, name))


def namesakes(cls: type) -> tuple[type, ...]:
    """The classes called like `cls` in the torch.ao that is loaded."""
    found = (getattr(sys.modules.get(home), cls.__name__, None) for home in _HOMES)
    return tuple(theirs for theirs in found if isinstance(theirs, type))


def is_or_is_namesake_of(module: Any, *classes: type) -> bool:
    """Is `module` one of these, ours or torch.ao's?"""
    return isinstance(module, classes) or any(isinstance(module, namesakes(cls)) for cls in classes)
