"""At run time: the user's forward runs as written, and its recorded calls go to the modules that quantize them."""

from __future__ import annotations

import copyreg
import functools
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.compiler import is_compiling, is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from nashquant.nn.qat import FloatFunctional, is_in_region, mark_region, set_apart
from nashquant.quantization.fake_quantize import FakeQuantize

from .call_site import entered, frames_from, source_line
from .dynamic import thread
from .foreign import check_state_dict
from .known import CALLS, Known, place_of
from .refused import RefusedCallError
from .registry import function_name, joins_two
from .scope import CompiledScope, Scope, redirections

__all__ = ["UnrecordedCallError", "float_ops", "own_calls"]


class UnrecordedCallError(RuntimeError):
    """A quantized tensor met a call that did not run when the model was prepared."""


class _Redirect(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.scope: Scope | CompiledScope | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = CALLS[place_of(func)]
        if call.between_tensors is not None and joins_two(args, kwargs):
            call = call.between_tensors
        if call.redirected:
            scope: Any = self.scope
            to = scope.find(call.redirected, call.above)
            if to is not None and to.module:
                # The mode is off while it handles a call: what the module calls is its own.
                compute = scope.children[to.module].compute
                if call.may_change:
                    func, args, kwargs = call.out_of_place(args, kwargs)
                if to.writes_back:
                    place, args = args[0], (set_apart(args[0]), *args[1:])
                    return mark_region(place.copy_(compute(func, args, kwargs)))
                return compute(func, args, kwargs)
            if to is not None and to.module == "" and not _is_float(scope.owner):
                parts = call.entry.spelled_out(args, kwargs)
                assert parts is not None
                with self:
                    return parts()
            if (to is None or not to.in_region) and _meets_region(args, kwargs):
                raise _unrecorded(func, call, scope)
        y = func(*args, **kwargs) if kwargs else func(*args)
        if not isinstance(y, _CARRIERS) or call.constant or is_compiling():
            return y
        if call.moves:  # of what it moves, not of what it takes a shape from
            moved = args[0] if args else kwargs.get("input")
            return mark_region(y) if hasattr(moved, "in_quantized_region") else y
        if not _meets_region(args, kwargs):
            return y
        mark_region(y)
        if call.entry is None and is_in_region(y):
            scope = self.scope
            if function_name(func) not in float_ops(scope.owner):
                raise _unrecorded(func, call, scope)
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


def _unrecorded(func: Callable[..., Any], known: Known, scope: Scope | CompiledScope) -> UnrecordedCallError:
    """The error for a call made two frames above."""
    times = scope.times_recorded(known.redirected, known.above + 1) if known.redirected else 0
    where = f"{function_name(func)} at {source_line(2)} (in {_running(scope.owner, 2)})"
    if times:
        return UnrecordedCallError(
            f"{where} meets a quantized tensor more often in one forward than the {times} time(s) on the example "
            "inputs given to prepare, so it has no scale. Give prepare inputs that go round as often, as "
            "example_inputs or among more_example_inputs, or put the loop's body into `with dynamic_block(self):` (of "
            "nashquant.fx.jit_scheme), where all rounds share one scale"
        )
    if isinstance(scope, Scope) and scope.goes_deeper(known.redirected, known.above + 1):
        return UnrecordedCallError(
            f"{where} meets a quantized tensor deeper in a recursion than on the example inputs given to prepare, so "
            "it has no scale. Give prepare inputs that go as deep, as example_inputs or among more_example_inputs"
        )
    if isinstance(scope, Scope) and (gone := scope.files_gone(known.above + 1)):
        return UnrecordedCallError(
            f"{where} meets a quantized tensor, but the calls of this model were recorded in {', '.join(gone)}, which "
            "is not there any more: a pickled model finds its calls by the file they are in. Put it back, or prepare "
            "the model here and load the state_dict"
        )
    return UnrecordedCallError(
        f"{where} meets a quantized tensor, but did not run on the example inputs given to prepare, so it has no "
        "scale. Give prepare inputs that take this way through forward, as example_inputs or among "
        "more_example_inputs, or move the call after the DeQuantStub"
    )


def _say_where(error: Exception, model: nn.Module) -> None:
    """Adds to an error of torch's, or of the user's, which layer of `model` it comes from (Python 3.11 and later)."""
    if isinstance(error, (UnrecordedCallError, RefusedCallError)) or not hasattr(error, "add_note"):
        return
    names = {module: name for name, module in model.named_modules() if name}
    ran = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if inside := [module for module in ran if isinstance(module, nn.Module) and module in names]:
        error.add_note(f"in {names[inside[-1]]!r} ({type(inside[-1]).__name__}) of the prepared {type(model).__name__}")


def _running(owner: nn.Module, depth: int) -> str:
    """The class and path of the module that makes a call `depth` frames above the caller.

    It may be one below the owner: a module without recorded calls owns nothing.
    """
    module = owner
    for frame in frames_from(depth + 1):
        if frame.f_code is nn.Module._call_impl.__code__:
            module = frame.f_locals["self"]
            break
    below = next((path for path, each in owner.named_modules() if each is module), "")
    path = f"{redirections(owner).path}.{below}".strip(".")
    return f"{type(module).__name__}{f' {path!r}' if path else ''}"


def float_ops(owner: nn.Module) -> set[str]:
    """Names of the functions without an entry that were recorded in a module's own forward; they stay float."""
    return vars(owner).setdefault("_float_ops", set())  # type: ignore[no-any-return]


def own_calls(module: nn.Module, path: str) -> None:
    """Makes the forward of the module at `path` redirect its recorded calls: its class becomes a subclass of that name.

    A subclass and not a new `forward` attribute, so that copies and pickles of the module are whole.
    """
    if not isinstance(module, _OwnsCalls):
        forward = vars(module).pop("forward", None)  # a forward patched onto the instance
        module.__class__ = _owning_class(type(module))
        if forward is not None:
            module._patched_forward = forward
        redirections(module).path = path


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
        mode = thread.mode
        if isinstance(mode, _Redirect):
            return _in_scope(mode, self, inner, args, kwargs)
        # The model's own forward, or one of its modules called alone: by a checkpoint's recomputation, say.
        own = thread.mode = _Redirect()
        try:
            with own:
                return _in_scope(own, self, inner, args, kwargs)
        except Exception as error:
            _say_where(error, self)
            raise
        finally:
            thread.mode = mode

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
    outer = mode.scope
    compiled = CompiledScope(owner) if is_dynamo_compiling() else None
    mode.scope = compiled or Scope(owner)
    try:
        y = entered(forward, args, kwargs)
        if compiled is not None and (problem := compiled.miscounted()):
            raise UnrecordedCallError(
                f"the compiled forward of {type(owner).__name__} {problem}: compile a model for the inputs it was "
                "prepared with, or run it uncompiled; torch.export takes it with strict=False"
            )
        return y
    finally:
        mode.scope = outer
