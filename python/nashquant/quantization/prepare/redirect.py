"""At run time: the user's forward runs as written, and its recorded calls go to the modules that quantize them."""

from __future__ import annotations

import copyreg
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nashquant.nn.qat import is_in_region, mark_region
from nashquant.op_kind import OpKind

from .call_site import CallSite, Position, call_site, entered, source_line
from .foreign import check_state_dict
from .registry import function_entry, function_name, known_functions

__all__ = ["Redirection", "UnrecordedCallError", "float_ops", "own_calls", "redirections"]


class UnrecordedCallError(RuntimeError):
    """A quantized tensor met a call that did not run when the model was prepared."""


class Redirection(NamedTuple):
    """Where a recorded call goes.

    Attributes:
        module: name of the child of the call's owner; None: the call runs as it is; "": a composite, whose parts go
            to their own modules.
        in_region: whether it met quantized tensors when it was recorded.
        writes_back: whether the call was in place and must change its first operand too.
    """

    module: str | None
    in_region: bool
    writes_back: bool


_thread = threading.local()


class _Scope:
    """One running forward of a module that owns recorded calls."""

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.table = redirections(owner)
        self.passed: dict[tuple[str, Position], int] = {}

    def find(self, op: str) -> Redirection | None:
        """Where the call of `op` that is running goes; None if it was not recorded."""
        position = () if torch.compiler.is_dynamo_compiling() else call_site(2)
        repeat = self.passed.get((op, position), 0)
        self.passed[op, position] = repeat + 1
        if torch.compiler.is_dynamo_compiling():  # no frames to look at: the calls in the order they were recorded
            sites = [site for site in self.table if site.op == op]
            return self.table[sites[repeat]] if repeat < len(sites) else None
        return self.table.get(CallSite(op, position, repeat))

    def check_complete(self) -> None:
        """Raises UnrecordedCallError if a compiled forward made other calls than the recorded one: there, only their
        number tells."""
        for op in {site.op for site in self.table} | {op for op, _ in self.passed}:
            expected, seen = sum(site.op == op for site in self.table), self.passed.get((op, ()), 0)
            if expected != seen:
                raise UnrecordedCallError(
                    f"the compiled forward of {type(self.owner).__name__} calls {op} {seen} times, prepare recorded "
                    f"{expected}: compile a model for the inputs it was prepared with, or run it uncompiled"
                )


class _Redirect(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[_Scope] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        entry = function_entry(func, args, kwargs)
        if entry is not None and entry.redirected:
            scope = self.scopes[-1]
            found = scope.find(entry.name)
            if found is not None and found.module:
                return _run(scope.owner._modules[found.module], found, func, args, kwargs)
            if found is not None and found.module == "":
                parts = entry.spelled_out(args, kwargs)
                assert parts is not None
                with self:
                    return parts()
            if (found is None or not found.in_region) and _meets_region(args, kwargs):
                raise _unrecorded(func, scope.owner)
        y = func(*args, **kwargs)
        if torch.compiler.is_compiling() or (entry is not None and entry.kind is OpKind.CONSTANT):
            return y
        if entry is not None and entry.kind is OpKind.PASS:  # of what it moves, not of what it takes a shape from
            return mark_region(y) if is_in_region(args[0] if args else kwargs.get("input")) else y
        if not _meets_region(args, kwargs):
            return y
        mark_region(y)
        if entry is None and is_in_region(y) and function_name(func) not in float_ops(self.scopes[-1].owner):
            raise _unrecorded(func, self.scopes[-1].owner)
        return y


def _meets_region(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(map(is_in_region, args)) or any(map(is_in_region, kwargs.values()))


def _run(
    module: Any,
    to: Redirection,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    func, args, kwargs = _out_of_place(func, args, kwargs)
    y = module.run(func, *args, **kwargs)
    return mark_region(args[0].copy_(y)) if to.writes_back else y


def _out_of_place(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The same call, leaving its operand alone: a quantizer's input must not change under it."""
    if kwargs.get("inplace"):
        kwargs = {**kwargs, "inplace": False}
    place = _INPLACE_ARGUMENT.get(func)
    if place is not None and len(args) > place:
        args = (*args[:place], False, *args[place + 1 :])
    return _OUT_OF_PLACE.get(func, func), args, kwargs


def _out_of_place_twins() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """`Tensor.add_` -> `Tensor.add`, and so on."""
    for func in known_functions():
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            yield from ((func, twin) for home in (torch, F, Tensor) if (twin := getattr(home, name[:-1], None)))


def _inplace_arguments() -> Iterator[tuple[Callable[..., Any], int]]:
    """Where `inplace` stands among the arguments of functions that have it."""
    for func in known_functions():
        code = getattr(func, "__code__", None)
        names = code.co_varnames[: code.co_argcount] if code is not None else ()
        if "inplace" in names:
            yield func, names.index("inplace")


def _with_item(x: Tensor, index: Any, value: Any) -> Tensor:
    """`x[index] = value`, on a copy."""
    y = x.clone()
    y[index] = value
    return y


_OUT_OF_PLACE = dict(_out_of_place_twins()) | {Tensor.__setitem__: _with_item}
_INPLACE_ARGUMENT = dict(_inplace_arguments())


def _unrecorded(func: Callable[..., Any], owner: nn.Module) -> UnrecordedCallError:
    name = function_name(func)
    return UnrecordedCallError(
        f"{name} at {source_line(2)} (in {type(owner).__name__}) meets a quantized tensor, but did not run on the "
        "example inputs given to prepare, so it has no scale. Give prepare example inputs that take this way "
        "through forward, or move the call after the DeQuantStub"
    )


def redirections(owner: nn.Module) -> dict[CallSite, Redirection]:
    """The recorded calls of a module's own forward."""
    return vars(owner).setdefault("_redirections", {})  # type: ignore[no-any-return]


def float_ops(owner: nn.Module) -> set[str]:
    """Names of the functions without an entry that were recorded in a module's own forward; they stay float."""
    return vars(owner).setdefault("_float_ops", set())  # type: ignore[no-any-return]


def own_calls(module: nn.Module) -> None:
    """Makes a module's forward redirect its recorded calls: swaps its class for a subclass of the same name.

    A subclass and not a new `forward` attribute, so that copies and pickles of the module are whole.

    Raises:
        TypeError: the module is compiled by TorchScript.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"{type(module).__name__} is a TorchScript module: prepare takes Python modules only")
    if not isinstance(module, _OwnsCalls):
        forward = vars(module).pop("forward", None)  # a forward patched onto the instance
        module.__class__ = _owning_class(type(module))
        if forward is not None:
            module._patched_forward = forward


class _OwnsCalls:
    """What the subclasses made here share."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As nn.Module's, but the state_dict of another model is refused before anything is loaded."""
        check_state_dict(self, state_dict, strict)
        return super().load_state_dict(state_dict, strict, assign)  # type: ignore[misc]


_owning_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _owning_class(cls: type[nn.Module]) -> Any:
    if cls not in _owning_classes:
        _owning_classes[cls] = _make_owning_class(cls)
    return _owning_classes[cls]


def _make_owning_class(cls: type[nn.Module]) -> type[nn.Module]:
    @functools.wraps(cls.forward)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        patched = vars(self).get("_patched_forward")
        inner = patched if patched is not None else functools.partial(cls.forward, self)
        mode: _Redirect | None = getattr(_thread, "mode", None)
        if mode is not None:
            return _in_scope(mode, self, inner, args, kwargs)
        # The model's own forward, or one of its modules called alone: by a checkpoint's recomputation, say.
        mode = _thread.mode = _Redirect()
        try:
            with mode:
                return _in_scope(mode, self, inner, args, kwargs)
        finally:
            _thread.mode = None

    def reduce(self: nn.Module, protocol: int) -> Any:
        reduced: Any = cls.__reduce_ex__(self, protocol)
        make, arguments, *rest = reduced
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            return (_new_owning, (cls, *arguments[1:]), *rest)
        return (make, arguments, *rest)

    members = {"forward": forward, "__reduce_ex__": reduce, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (_OwnsCalls, cls), members)


def _new_owning(cls: type[nn.Module], *arguments: Any) -> Any:
    owning = _owning_class(cls)
    return owning.__new__(owning, *arguments)


def _in_scope(
    mode: _Redirect,
    owner: nn.Module,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    mode.scopes.append(_Scope(owner))
    try:
        y = entered(forward, args, kwargs)
        if torch.compiler.is_dynamo_compiling():
            mode.scopes[-1].check_complete()
        return y
    finally:
        mode.scopes.pop()
