"""What is asked of a torch function at each call while a prepared model runs, looked up once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import assume_constant_result

from nashquant.op_kind import OpKind

from .registry import OpEntry, known_functions, named_entry

__all__ = ["CALLS", "Known", "place_of"]


class Known:
    """One function.

    Attributes:
        entry: its entry in the registry; None where it has none.
        redirected: the op's name, if a recorded call of it is redirected; else "".
        moves: whether its output lies where its first operand does.
        constant: whether it makes a constant, whatever it is given.
        may_change: whether it changes its operand, by what it is or where an argument `inplace` says so.
        between_tensors: what it is where its second operand is a tensor too, if that is another op.
        above: how many frames above the mode's handler it is called. C functions come there directly, torch's Python
            functions from their own frame, by way of `handle_torch_function`.
    """

    __slots__ = (
        *("above", "between_tensors", "constant", "entry", "may_change", "moves", "redirected"),
        *("_inplace_at", "_twin"),
    )

    def __init__(self, func: Callable[..., Any], entry: OpEntry | None) -> None:
        kind = None if entry is None else entry.kind
        self.entry = entry
        self.redirected = entry.name if entry is not None and entry.redirected else ""
        self.moves, self.constant = kind is OpKind.PASS, kind is OpKind.CONSTANT
        self._twin, self._inplace_at = _OUT_OF_PLACE.get(func, func), _inplace_argument(func)
        self.may_change = self._twin is not func or self._inplace_at is not None
        self.between_tensors: Known | None = None
        self.above = 3 if isinstance(func, FunctionType) else 1

    def out_of_place(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """A call of it that leaves its operand alone: a quantizer's input must not change under it."""
        kwargs.pop("inplace", None)  # torch made the dict for this call alone
        at = self._inplace_at
        if at is not None and len(args) > at:
            args = (*args[:at], False, *args[at + 1 :])
        return self._twin, args, kwargs


def _inplace_argument(func: Callable[..., Any]) -> int | None:
    """Where `inplace` stands among the arguments."""
    code = getattr(func, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    return names.index("inplace") if "inplace" in names else None


def _out_of_place_twins() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """`Tensor.add_` -> `Tensor.add`, and so on."""
    for func in known_functions():
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            yield from ((func, twin) for home in (torch, F, Tensor) if (twin := getattr(home, name[:-1], None)))
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):  # `x += y`, as compilers show it
        yield getattr(operator, f"i{name}"), getattr(operator, name)
        yield getattr(Tensor, f"__i{name}__"), getattr(Tensor, f"__{name}__")


def _with_item(x: Tensor, index: Any, value: Any) -> Tensor:
    """`x[index] = value`, on a copy."""
    y = x.clone()
    y[index] = value
    return y


_OUT_OF_PLACE = dict(_out_of_place_twins()) | dict.fromkeys((Tensor.__setitem__, operator.setitem), _with_item)


def _known_calls() -> Iterator[tuple[Callable[..., Any], Known]]:
    for func, entry in known_functions().items():
        call = Known(func, entry)
        if entry.with_tensor is not None:
            call.between_tensors = Known(func, named_entry(entry.with_tensor))
        yield func, call


_FUNCTIONS, _CALLS = zip(*_known_calls(), strict=True)
CALLS = (Known(lambda: None, None), *_CALLS)
"""All there are; the first is any function without an entry."""
_PLACES = {func: place for place, func in enumerate(_FUNCTIONS, 1)}


@assume_constant_result  # type: ignore[untyped-decorator]  # torch 2.13 finds no `Tensor.__pow__` in a dict it compiles
def place_of(func: Callable[..., Any]) -> int:
    """Where `func`, in any spelling, is in `CALLS`."""
    return _PLACES.get(func, 0)
