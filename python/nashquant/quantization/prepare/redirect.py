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
from torch.compiler import is_compiling
from torch.overrides import TorchFunctionMode

from nashquant.nn.qat import FloatFunctional, is_in_region, mark_region, set_apart
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantize

from .call_site import entered, source_line
from .foreign import check_state_dict
from .registry import OpEntry, function_entry, function_name, known_functions
from .scope import Scope

__all__ = ["UnrecordedCallError", "float_ops", "own_calls"]


class UnrecordedCallError(RuntimeError):
    """A quantized tensor met a call that did not run when the model was prepared."""


_thread = threading.local()


class _Redirect(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.scope: Scope | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = _KNOWN.get(func, _UNKNOWN)
        if known is None:  # torch.max and the like are two ops each
            known = _Known.of(func, args, kwargs)
        if known.redirected is not None:
            scope: Any = self.scope
            to = scope.find(known.redirected)
            if to is not None and to.module:
                if known.in_place:
                    func, args, kwargs = _out_of_place(func, args, kwargs)
                # The mode is off while it handles a call: what the module calls is its own.
                if to.writes_back:
                    place, args = args[0], (set_apart(args[0]), *args[1:])
                    return mark_region(place.copy_(scope.owner._modules[to.module].compute(func, args, kwargs)))
                return scope.owner._modules[to.module].compute(func, args, kwargs)
            if to is not None and to.module == "" and not _is_float(scope.owner):
                parts = known.entry.spelled_out(args, kwargs)  # type: ignore[union-attr]
                assert parts is not None
                with self:
                    return parts()
            if (to is None or not to.in_region) and _meets_region(args, kwargs):
                raise _unrecorded(func, scope.owner)
        y = func(*args, **kwargs) if kwargs else func(*args)
        kind = None if known.entry is None else known.entry.kind
        if not isinstance(y, _CARRIERS) or is_compiling() or kind is OpKind.CONSTANT:
            return y
        if kind is OpKind.PASS:  # of what it moves, not of what it takes a shape from
            return mark_region(y) if is_in_region(args[0] if args else kwargs.get("input")) else y
        if not _meets_region(args, kwargs):
            return y
        mark_region(y)
        if known.entry is None and is_in_region(y):
            owner = self.scope.owner  # type: ignore[union-attr]
            if function_name(func) not in float_ops(owner):
                raise _unrecorded(func, owner)
        return y


def _is_float(owner: nn.Module) -> bool:
    """Whether no quantizer of a module's own calls is on: the one call that has parts then runs as it is."""
    return all(quantizer.is_off for child in owner._modules.values() for quantizer in _quantizers(child))


def _quantizers(child: nn.Module | None) -> Iterator[FakeQuantize]:
    if isinstance(child, FloatFunctional):
        yield from (module for module in child.modules() if isinstance(module, FakeQuantize))


_CARRIERS = (Tensor, tuple, list)  # what can be marked, or hold what can


def _meets_region(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return any(map(is_in_region, args)) or (bool(kwargs) and any(map(is_in_region, kwargs.values())))


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


class _Known(NamedTuple):
    """What is asked of a function at each call.

    Attributes:
        entry: its entry in the registry.
        redirected: the op's name, if a recorded call of it is redirected.
        in_place: whether it may change its operand.
    """

    entry: OpEntry | None
    redirected: str | None
    in_place: bool

    @classmethod
    def of(cls, func: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> _Known:
        entry = function_entry(func, args, kwargs)
        assert entry is not None
        return cls(entry, entry.name if entry.redirected else None, func in _OUT_OF_PLACE or func in _INPLACE_ARGUMENT)


_UNKNOWN = _Known(None, None, False)
# None: looked at call by call.
_KNOWN = {func: None if entry.with_tensor else _Known.of(func) for func, entry in known_functions().items()}


def _unrecorded(func: Callable[..., Any], owner: nn.Module) -> UnrecordedCallError:
    name = function_name(func)
    return UnrecordedCallError(
        f"{name} at {source_line(2)} (in {type(owner).__name__}) meets a quantized tensor, but did not run on the "
        "example inputs given to prepare, so it has no scale. Give prepare inputs that take this way through "
        "forward, as example_inputs or among more_example_inputs, or move the call after the DeQuantStub"
    )


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
    outer, scope = mode.scope, Scope(owner)
    mode.scope = scope
    try:
        y = entered(forward, args, kwargs)
        if torch.compiler.is_dynamo_compiling() and (problem := scope.miscounted()):
            raise UnrecordedCallError(
                f"the compiled forward of {type(owner).__name__} {problem}: compile a model for the inputs it was "
                "prepared with, or run it uncompiled"
            )
        return y
    finally:
        mode.scope = outer
