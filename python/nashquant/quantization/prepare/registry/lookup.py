"""Finds the entry of a function or module."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import resolve_name

from nashquant.nn import FloatFunctional, qat, stubs

from . import arithmetic, composites, gemm, moves, tables
from .entry import OpEntry

__all__ = [
    "ENTRIES",
    "function_entry",
    "function_name",
    "is_float_functional",
    "joins_two",
    "known_functions",
    "module_entry",
    "named_entry",
    "qat_class",
    "spellings",
]

ENTRIES = (*gemm.ENTRIES, *arithmetic.ENTRIES, *tables.ENTRIES, *composites.ENTRIES, *moves.ENTRIES)

_HOMES = (torch, F, Tensor, torch.linalg, torch.special, operator)  # torch.export(strict=True) shows operators as such


def spellings(entry: OpEntry) -> Iterator[Callable[..., Any]]:
    """All functions that are this op: torch.add, Tensor.add_, Tensor.__radd__, ..."""
    yield from entry.functions
    for name in (entry.name, *entry.aliases):
        for home in _HOMES:
            for spelling in (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__"):
                found = getattr(home, spelling, None)
                if isinstance(found, property) or inspect.isgetsetdescriptor(found):
                    yield found.__get__
                elif callable(found):
                    yield found


_BY_NAME = {entry.name: entry for entry in ENTRIES}
_BY_MODULE = {module: entry for entry in ENTRIES for module in entry.modules}
_BY_FUNCTION = {function: entry for entry in ENTRIES for function in spellings(entry)}


def named_entry(name: str) -> OpEntry:
    """The entry of that name."""
    return _BY_NAME[name]


def known_functions() -> Mapping[Callable[..., Any], OpEntry]:
    """All spellings of all functions with an entry, and the entry; see `function_entry` for those with two."""
    return _BY_FUNCTION


def function_entry(
    function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> OpEntry | None:
    """The entry of a torch function or method, in any spelling; some are another op between two tensors."""
    entry = _BY_FUNCTION.get(function)
    if entry is None or entry.with_tensor is None:
        return entry
    return _BY_NAME[entry.with_tensor] if joins_two(args, kwargs or {}) else entry


def joins_two(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call has two operands, and both are tensors."""
    if len(args) < 2:
        args = (*args, *(kwargs[name] for name in ("input", "other", "exponent") if name in kwargs))
    return len(args) > 1 and isinstance(args[0], Tensor) and isinstance(args[1], Tensor)


def function_name(function: Callable[..., Any]) -> str:
    """The name of a torch function as a report shows it; of a property, the property's."""
    name = getattr(function, "__name__", "")
    if name in ("__get__", "fn", ""):
        name = (resolve_name(function) or name or repr(function)).removesuffix(".__get__").rpartition(".")[2]
    return name


def module_entry(module: nn.Module) -> OpEntry | None:
    """The entry of a module of exactly a registered class; torch's own stubs count as ours.

    A subclass is user code: its forward is entered and its calls are seen one by one.
    """
    cls = type(module)
    if cls.__module__.startswith("torch.") and cls.__name__ in ("QuantStub", "DeQuantStub"):
        cls = getattr(stubs, cls.__name__)
    return _BY_MODULE.get(cls)


def qat_class(module: nn.Module) -> type[nn.Module]:
    """The quantized twin of a registered module's class."""
    cls = type(module)
    return vars(qat).get(cls.__name__) or qat.twin(cls)


def is_float_functional(module: nn.Module) -> bool:
    """Whether `module` is our FloatFunctional or torch's class of the same name."""
    cls = type(module)
    return cls is FloatFunctional or (cls.__name__ == "FloatFunctional" and cls.__module__.startswith("torch."))
