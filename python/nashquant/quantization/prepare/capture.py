"""Runs a float model once and records which op ran where, on which tensors."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from nashquant.nn import FloatFunctional

from .call_site import (
    CallSite,
    call_site,
    entered,
    is_augmented_assignment,
    is_checkpointed,
    source_line,
)
from .composite import spelled_out
from .graph import Node, Operand, Origin, Value
from .registry import (
    CONSTANT,
    DEQUANT,
    EMBEDDING,
    PASS,
    QUANT,
    SPELLED,
    function_spec,
    is_float_functional,
    module_spec,
)

__all__ = ["CheckpointedCallError", "Recording", "capture"]


class CheckpointedCallError(NotImplementedError):
    """A call would be recomputed where it could no longer be redirected to its quantizer."""


@dataclass(frozen=True)
class Recording:
    """One run of a model.

    Attributes:
        nodes: the ops between QuantStub and DeQuantStub, in the order they ran.
        calls: how often each registered module ran, wherever it stands.
        spelled: composite calls that were recorded in parts: owner, and where in its forward.
    """

    nodes: list[Node]
    calls: Counter[str]
    spelled: list[tuple[str, CallSite]]


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """What ran, on the example inputs.

    The model runs as it is (train or eval), without gradients, on a copy that shares only its parameters: buffers
    and the random state are not touched.

    Raises:
        ValueError: the model fails on these inputs, has no QuantStub on their way, or gives out a tensor that no
            DeQuantStub released.
        CheckpointedCallError: an op runs in a checkpointed closure.
    """
    shadow = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    recorder = _Recorder(shadow)
    recorder.declare((args, kwargs), Origin.FLOAT)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(model)), warnings.catch_warnings(), recorder:
            warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # torch.utils.checkpoint's
            outputs = shadow(*args, **kwargs)
    except CheckpointedCallError:
        raise
    except Exception as error:
        raise ValueError(
            f"{type(model).__name__} fails on the example inputs given to prepare: {type(error).__name__}: {error}"
        ) from error
    recorder.check(outputs)
    return Recording(recorder.nodes, recorder.calls, recorder.spelled)


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in model.parameters() if parameter.is_cuda})


def _tensors(tree: Any, position: str = "") -> Iterator[tuple[str, Tensor]]:
    """The float and complex tensors in an argument, with their positions."""
    if isinstance(tree, Tensor):
        if tree.is_floating_point() or tree.is_complex():
            yield position, tree
    elif isinstance(tree, (tuple, list)):
        for index, item in enumerate(tree):
            yield from _tensors(item, f"{position}_{index}" if position else str(index))
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from _tensors(item, f"{position}_{key}" if position else str(key))
    elif hasattr(tree, "__dataclass_fields__"):
        yield from _tensors(vars(tree), position)


class _Recorder(TorchFunctionMode):
    """Sees every call of a torch function, and of a module through its wrapped forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.calls: Counter[str] = Counter()
        self.spelled: list[tuple[str, CallSite]] = []
        self._values: dict[int, Value] = {}
        self._alive: list[Tensor] = []  # while a tensor lives, its id is its own
        self._paused = False
        self._scopes: list[tuple[str, Counter[tuple[str, Any]]]] = []
        self._generated: Counter[tuple[str, str]] = Counter()
        self._stubs = {QUANT: 0, DEQUANT: 0}
        for path, module in model.named_modules():
            if is_float_functional(module):
                module.__class__ = FloatFunctional
                module.run = self._functional(module, path)
            else:
                module.forward = self._wrapped(module, path, module.forward)

    # What flows.

    def declare(self, tree: Any, origin: Origin) -> None:
        """Says where the tensors in `tree` come from."""
        for _, tensor in _tensors(tree):
            self._set(tensor, Value(origin, tuple(tensor.shape), tensor.device))

    def _set(self, tensor: Tensor, value: Value) -> None:
        self._alive.append(tensor)
        self._values[id(tensor)] = value

    def _value(self, tensor: Tensor) -> Value:
        if id(tensor) not in self._values:  # parameters, buffers, tensors kept in attributes
            self.declare(tensor, Origin.CONSTANT)
        return self._values[id(tensor)]

    @contextmanager
    def _pause(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _ran(self, node: Node, outputs: Any, origin: Origin | None = None) -> None:
        """Takes note of a call and of where its outputs come from."""
        origins = {operand.value.origin for operand in node.operands}
        if origin is None:
            origin = next((o for o in (Origin.REGION, Origin.FLOAT) if o in origins), Origin.CONSTANT)
        results = list(_tensors(outputs))
        in_region = origin is Origin.REGION or node.kind in (QUANT, DEQUANT, EMBEDDING)
        keep = bool(results) and (in_region or (node.kind == PASS and origin is Origin.CONSTANT))
        if keep:
            self.nodes.append(node)
            for operand in node.operands:
                operand.value.consumers.append(node)
        for _, tensor in results:
            value = Value(origin, tuple(tensor.shape), tensor.device, node if keep else None)
            node.outputs.append(value)
            self._set(tensor, value)

    # Modules.

    def _wrapped(self, module: nn.Module, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._paused:
                return forward(*args, **kwargs)
            spec = module_spec(module)
            if spec is None:
                self._scopes.append((path, Counter()))
                try:
                    return entered(forward, args, kwargs)
                finally:
                    self._scopes.pop()
            self.calls[path] += 1
            operands = self._operands(args, kwargs)
            with self._pause():
                outputs = forward(*args, **kwargs)
                if spec.kind in self._stubs and isinstance(outputs, Tensor):
                    outputs = outputs.view_as(outputs)  # a stub's output is another value than its input
            origin = {QUANT: Origin.REGION, DEQUANT: Origin.FLOAT, EMBEDDING: Origin.CONSTANT}.get(spec.kind)
            if spec.kind in self._stubs:
                self._stubs[spec.kind] += 1
            self._ran(Node(spec, path, type(module).__name__, operands), outputs, origin)
            return outputs

        return call

    def _functional(self, module: nn.Module, path: str) -> Callable[..., Any]:
        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            operands = self._operands(args, kwargs)
            with self._pause():
                outputs = function(*args, **kwargs)
            spec = function_spec(function, args)
            self._ran(Node(spec, path, "FloatFunctional", operands, place=_name(function)), outputs)
            return outputs

        return run

    def _operands(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Operand]:
        return [Operand(at, self._value(tensor)) for at, tensor in (*_tensors(args), *_tensors(kwargs))]

    # Functions.

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not self._scopes:
            return func(*args, **kwargs)
        operands = self._operands(args, kwargs)
        name = _name(func)
        in_region = any(operand.value.origin is Origin.REGION for operand in operands)
        parts = spelled_out(func, args, kwargs) if in_region else None
        if parts is not None:
            self.spelled.append((self._scopes[-1][0], self._site(name, 1)))
            with self:
                return parts()
        in_place = name.endswith("_") and not name.endswith("__")
        was_view = in_place and isinstance(args[0], Tensor) and args[0]._is_view()
        with self._pause():
            outputs = func(*args, **kwargs)
        is_complex = any(tensor.is_complex() for _, tensor in _tensors((*args, outputs)))
        spec = None if is_complex else function_spec(func, args)
        if name == "__setitem__":
            outputs = args[0]
        if spec is not None and spec.kind == CONSTANT:
            self.declare(outputs, Origin.CONSTANT)
            return outputs
        if spec is not None and spec.kind == SPELLED:
            spec = None  # in a form that is not spelled out
        owner, _ = self._scopes[-1]
        node = Node(spec, owner, name, operands, owner=owner)
        if in_region and any(_tensors(outputs)):
            node.place = source_line(1)
            if spec is not None and spec.redirected:
                node.site = self._site(spec.name, 1)
                node.path = self._generate(owner, spec.name)
                node.writes_back = in_place and (was_view or not is_augmented_assignment(1))
                if is_checkpointed(1):
                    raise CheckpointedCallError(
                        f"{name} at {node.place} runs in a function given to torch.utils.checkpoint by the forward of "
                        f"{owner or 'the model'!r}; put it into an nn.Module and checkpoint that module"
                    )
        self._ran(node, outputs)
        return None if name == "__setitem__" else outputs

    def _site(self, op: str, depth: int) -> CallSite:
        _, passed = self._scopes[-1]
        position = call_site(depth + 1)
        passed[op, position] += 1
        return CallSite(op, position, passed[op, position] - 1)

    def _generate(self, owner: str, op: str) -> str:
        number = self._generated[owner, op]
        self._generated[owner, op] += 1
        return f"{owner}._generated_{op}_{number}".removeprefix(".")

    # What must hold when it has run.

    def check(self, outputs: Any) -> None:
        """Raises ValueError where a stub is missing."""
        if not self._stubs[QUANT]:
            raise ValueError(
                "no QuantStub ran on the example inputs, so there is nothing to quantize: pass each float input of the "
                "part for the chip through a nashquant.quantization.QuantStub, and each output through a DeQuantStub"
            )
        for at, tensor in _tensors(outputs):
            if self._value(tensor).origin is Origin.REGION:
                producer = self._value(tensor).producer
                came = f" (made by {producer.path!r})" if producer is not None else ""
                raise ValueError(
                    f"output {at or '0'} of the model is still quantized{came}: pass it through a DeQuantStub"
                )


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if name in ("__get__", "fn", ""):
        name = (resolve_name(function) or name or repr(function)).removesuffix(".__get__").rpartition(".")[2]
    return name
