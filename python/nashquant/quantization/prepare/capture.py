"""Runs a float model once and records which op ran where, on which tensors."""

from __future__ import annotations

import copy
import itertools
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
    RESAMPLE,
    SPELLED,
    OpSpec,
    function_spec,
    is_float_functional,
    module_spec,
)

__all__ = ["CheckpointedCallError", "Recording", "Site", "capture"]


class CheckpointedCallError(NotImplementedError):
    """A call would be recomputed where it could no longer be redirected to its quantizer."""


@dataclass
class Site:
    """What was seen of one functional call.

    Attributes:
        path: the module that will hold its quantizers; None: it runs as it is; "": in parts, which have sites.
        in_region: whether it met quantized tensors.
        outside: whether it (also) ran without any.
    """

    path: str | None = None
    in_region: bool = False
    outside: bool = False


@dataclass(frozen=True)
class Recording:
    """One run of a model.

    Attributes:
        nodes: the ops between QuantStub and DeQuantStub, in the order they ran.
        calls: how often each registered module ran, wherever it stands.
        sites: (owner, call site) -> each call of a function that the registry redirects, quantized or not.
        outside: paths of modules that ran without a quantized tensor.
        functional_parameters: ids of the parameters that functions took as operands.
        lost: DeQuantStubs that got a tensor which was not seen to come from a QuantStub.
    """

    nodes: list[Node]
    calls: Counter[str]
    sites: dict[tuple[str, CallSite], Site]
    outside: frozenset[str]
    functional_parameters: frozenset[int]
    lost: tuple[str, ...]


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
    return recorder.recording()


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
        self._model = model
        self._nodes: list[Node] = []
        self._calls: Counter[str] = Counter()
        self._sites: dict[tuple[str, CallSite], Site] = {}
        self._outside: set[str] = set()
        self._functional_parameters: set[int] = set()
        self._lost: list[str] = []
        self._values: dict[int, Value] = {}
        self._stale: dict[int, Callable[[], Value]] = {}  # tensors that were changed in place, and what they are now
        self._alive: list[Tensor] = []  # while a tensor lives, its id is its own
        self._paused = False
        self._scopes: list[tuple[str, Counter[tuple[str, Any]]]] = []
        self._generated: set[str] = set()
        self._stubs = {QUANT: 0, DEQUANT: 0}
        for path, module in model.named_modules():
            if is_float_functional(module):
                module.__class__ = FloatFunctional
                module.run = self._functional(module, path)
            else:
                module.forward = self._wrapped(module, path, module.forward)

    def recording(self) -> Recording:
        """All that was seen."""
        outside = self._outside | {site.path for site in self._sites.values() if site.path and site.outside}
        parameters = frozenset(self._functional_parameters)
        return Recording(self._nodes, self._calls, self._sites, frozenset(outside), parameters, tuple(self._lost))

    # What flows.

    def declare(self, tree: Any, origin: Origin) -> None:
        """Says where the tensors in `tree` come from."""
        for _, tensor in _tensors(tree):
            self._set(tensor, self._describe(tensor, origin))

    def _describe(self, tensor: Tensor, origin: Origin, producer: Node | None = None) -> Value:
        finite = tensor.is_complex() or tensor.is_meta or bool(torch.isfinite(tensor).all())
        return Value(origin, tuple(tensor.shape), tensor.device, producer, finite=finite)

    def _set(self, tensor: Tensor, value: Value) -> None:
        self._alive.append(tensor)
        self._values[id(tensor)] = value
        self._stale.pop(id(tensor), None)

    def _value(self, tensor: Tensor) -> Value:
        if id(tensor) in self._stale:
            return self._stale[id(tensor)]()
        if id(tensor) not in self._values:  # parameters, buffers, tensors kept in attributes
            with self._pause():
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
        if origin is None:
            # What only moves values, or keeps their grid, is what its data is; a shape taken from elsewhere is not.
            sources = [node.data] if node.kind in (PASS, RESAMPLE) else [operand.value for operand in node.operands]
            origins = {value.origin for value in sources if value is not None}
            origin = next((o for o in (Origin.REGION, Origin.FLOAT) if o in origins), Origin.CONSTANT)
        results = list(_tensors(outputs))
        in_region = origin is Origin.REGION or node.kind in (QUANT, DEQUANT, EMBEDDING)
        keep = bool(results) and (in_region or (node.kind == PASS and origin is Origin.CONSTANT))
        if keep or (in_region and _has_tensor(outputs)):  # a comparison, an argmax: it consumes all the same
            for operand in node.operands:
                operand.value.consumers.append(node)
        if keep:
            self._nodes.append(node)
        for _, tensor in results:
            value = self._describe(tensor, origin, node if keep else None)
            node.outputs.append(value)
            self._set(tensor, value)

    def _ran_in_place(self, node: Node, changed: Tensor) -> Tensor:
        """As `_ran`, for a call that changed its first operand; gives another handle on the same memory.

        Who goes on with the handle, as after `x += y`, needs no copy back. Who goes on with the old tensor, does.
        """
        self._ran(node, changed)
        value = self._values[id(changed)]

        def used() -> Value:
            node.writes_back = True
            return value

        base = changed._base
        if base is not None:
            node.writes_back = True
            before = self._values.get(id(base))
            if before is not None:
                self._stale[id(base)] = lambda: self._partly_changed(base, before, value, node)
        handle = changed.view_as(changed)
        self._set(handle, value)
        self._stale[id(changed)] = used
        return handle

    def _partly_changed(self, base: Tensor, before: Value, part: Value, node: Node) -> Value:
        """A tensor after an in-place call on a view of it: on no grid that we know."""
        label = f"{node.label} on a view"
        mixed = Node(None, node.owner or "", label, [Operand("0", before), Operand("1", part)], owner=node.owner)
        with self._pause():
            self._ran(mixed, base, Origin.REGION)
        return self._values[id(base)]

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
            return self._registered(spec, path, type(module).__name__, forward, args, kwargs)

        return call

    def _registered(
        self,
        spec: OpSpec,
        path: str,
        label: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._calls[path] += 1
        node = Node(spec, path, label, self._operands(args, kwargs))
        if spec.makes_grid and spec.kind not in (QUANT, EMBEDDING) and not node.region_operands:
            self._outside.add(path)
        if spec.kind in self._stubs:
            self._stubs[spec.kind] += 1
        if spec.kind == DEQUANT and not node.region_operands:
            self._lost.append(path)
        with self._pause():
            outputs = forward(*args, **kwargs)
            in_place = bool(args) and outputs is args[0] and spec.makes_grid and spec.kind != QUANT
            if in_place and node.region_operands:
                return self._ran_in_place(node, outputs)
            if spec.kind in self._stubs and isinstance(outputs, Tensor):
                outputs = outputs.view_as(outputs)  # a stub's output is another value than its input
            origin = {QUANT: Origin.REGION, DEQUANT: Origin.FLOAT, EMBEDDING: Origin.CONSTANT}.get(spec.kind)
            self._ran(node, outputs, origin)
        return outputs

    def _functional(self, module: nn.Module, path: str) -> Callable[..., Any]:
        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            self._calls[path] += 1
            spec = function_spec(function, args, kwargs)
            node = Node(spec, path, "FloatFunctional", self._operands(args, kwargs), place=_name(function))
            if not node.region_operands:
                self._outside.add(path)
            with self._pause():
                outputs = function(*args, **kwargs)
                self._ran(node, outputs)
            return outputs

        return run

    def _operands(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Operand]:
        return [Operand(at, self._value(tensor)) for at, tensor in (*_tensors(args), *_tensors(kwargs))]

    # Functions.

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not self._scopes:
            return func(*args, **kwargs)
        name, spec = _name(func), function_spec(func, args, kwargs)
        owner = self._scopes[-1][0]
        node = Node(spec, owner, name, self._operands(args, kwargs), owner=owner)
        in_region = bool(node.region_operands)
        site = self._site(node, in_region) if spec is not None and spec.redirected else None
        if in_region:
            node.place = source_line(1)
            self._functional_parameters.update(id(t) for _, t in _tensors(args) if isinstance(t, nn.Parameter))
            parts = spelled_out(func, args, kwargs)
            if parts is not None:
                assert site is not None
                site.path = ""
                with self:
                    return parts()
        with self._pause():
            outputs = func(*args, **kwargs)
            return self._ran_function(node, site, args, outputs)

    def _ran_function(self, node: Node, site: Site | None, args: tuple[Any, ...], outputs: Any) -> Any:
        if node.label == "__setitem__":
            self._ran(node, args[0])
            return None
        if node.kind == CONSTANT:
            self.declare(outputs, Origin.CONSTANT)
            return outputs
        in_region = bool(node.region_operands)
        if in_region and not self._is_known(node, args, outputs):
            node.spec = node.site = None
        elif in_region and site is not None and any(_tensors(outputs)):
            self._check_not_checkpointed(node)
            if site.path is None:
                site.path = self._generate(node)
            node.path = site.path
        in_place = bool(args) and isinstance(outputs, Tensor) and outputs is args[0] and node.kind != PASS
        if in_place and in_region:
            return self._ran_in_place(node, outputs)
        self._ran(node, outputs)
        return outputs

    @staticmethod
    def _is_known(node: Node, args: tuple[Any, ...], outputs: Any) -> bool:
        """Whether the registry's row fits this call."""
        if any(tensor.is_complex() for _, tensor in _tensors((*args, outputs))):
            return False
        if node.kind == RESAMPLE:  # keeps the grid of its data, which must have one
            return node.data is not None and node.data.origin is Origin.REGION
        return node.kind != SPELLED  # here only in a form that is not spelled out

    def _site(self, node: Node, in_region: bool) -> Site:
        """What is known of the call that is running, which may have run before: its owner may be called twice."""
        assert node.spec is not None
        owner, passed = self._scopes[-1]
        position = call_site(2)
        node.site = CallSite(node.spec.name, position, passed[node.spec.name, position])
        passed[node.spec.name, position] += 1
        site = self._sites.setdefault((owner, node.site), Site())
        site.in_region |= in_region
        site.outside |= not in_region
        return site

    def _check_not_checkpointed(self, node: Node) -> None:
        if is_checkpointed(3):
            raise CheckpointedCallError(
                f"{node.label} at {node.place} runs in a function given to torch.utils.checkpoint by the forward of "
                f"{node.owner or 'the model'!r}; put it into an nn.Module and checkpoint that module"
            )

    def _generate(self, node: Node) -> str:
        """A name for the module of a functional call: numbered by op and owner, past names the user has taken."""
        assert node.spec is not None
        assert node.owner is not None
        owner = self._model.get_submodule(node.owner)
        for number in itertools.count():
            name = f"_generated_{node.spec.name}_{number}"
            path = f"{node.owner}.{name}".removeprefix(".")
            if path not in self._generated and not hasattr(owner, name):
                self._generated.add(path)
                return path
        raise AssertionError

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


def _has_tensor(tree: Any) -> bool:
    if isinstance(tree, (tuple, list)):
        return any(map(_has_tensor, tree))
    return isinstance(tree, Tensor)


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "")
    if name in ("__get__", "fn", ""):
        name = (resolve_name(function) or name or repr(function)).removesuffix(".__get__").rpartition(".")[2]
    return name
