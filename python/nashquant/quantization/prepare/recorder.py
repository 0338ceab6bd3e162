"""Sees every call of a running model: of torch functions through a mode, of modules through their forwards."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.fx
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nashquant.nn import FloatFunctional
from nashquant.op_kind import OpKind

from .call_site import CallSite, Position, call_site, entered, is_checkpointed, source_line
from .dynamic import Passes
from .flow import Flow, tensors_of
from .graph import Node, Operand, Origin
from .known import CALLS, place_of
from .recording import Recording, Site
from .refused import CheckpointedCallError, RefusedCallError, computed_weight
from .registry import OpEntry, function_entry, function_name, is_float_functional, module_entry

__all__ = ["Recorder"]


# Where the outputs of these come from, whatever their inputs are.
_ORIGIN = {OpKind.QUANT: Origin.REGION, OpKind.DEQUANT: Origin.FLOAT, OpKind.EMBEDDING: Origin.CONSTANT}


class _Recorded(Passes):
    """One running forward. `passed`: how often each of its calls was passed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.passed: Counter[tuple[str, Position]] = Counter()


class Recorder(TorchFunctionMode):
    """Sees every call of a torch function, and of a module through its wrapped forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._calls: Counter[str] = Counter()  # in this run
        self._most_calls: Counter[str] = Counter()  # in any run
        self._sites: dict[tuple[str, CallSite], Site] = {}
        self._outside: set[str] = set()
        self._functional_parameters: set[int] = set()
        self._lost: dict[str, None] = {}
        self.flow = Flow()
        self._paused = False
        self._scopes: list[_Recorded] = []
        self._numbers: defaultdict[tuple[str, str], Iterator[int]] = defaultdict(itertools.count)
        self._stubs = {OpKind.QUANT: 0, OpKind.DEQUANT: 0}
        for path, module in model.named_modules():
            if is_float_functional(module):
                module.__class__ = FloatFunctional
                module.run = self._functional(module, path)
            else:
                module.forward = self._wrapped(module, path, module.forward)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What comes now is a run of its own, on these inputs."""
        self._most_calls |= self._calls
        self._calls.clear()
        self.flow.begin((args, kwargs))

    def recording(self) -> Recording:
        """All that was seen."""
        outside = self._outside | {site.path for site in self._sites.values() if site.path and site.outside}
        parameters = frozenset(self._functional_parameters)
        calls = self._most_calls | self._calls
        return Recording(self.flow.nodes, calls, self._sites, frozenset(outside), parameters, tuple(self._lost))

    @property
    def scope(self) -> Passes | None:
        """The innermost forward that runs."""
        return self._scopes[-1] if self._scopes else None

    @contextmanager
    def _pause(self) -> Iterator[None]:
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    # Modules.

    def _wrapped(self, module: nn.Module, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._paused:
                return forward(*args, **kwargs)
            entry = module_entry(module)
            if entry is None:
                self._scopes.append(_Recorded(path))
                try:
                    return entered(forward, args, kwargs)
                finally:
                    self._scopes.pop()
            return self._registered(entry, path, type(module).__name__, forward, args, kwargs)

        return call

    def _registered(
        self,
        entry: OpEntry,
        path: str,
        label: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        self._calls[path] += 1
        node = Node(entry, path, label, self._operands(args, kwargs))
        if entry.makes_grid and entry.kind not in (OpKind.QUANT, OpKind.EMBEDDING) and not node.region_operands:
            self._outside.add(path)
        parameters = self._model.get_submodule(path)._parameters
        if entry.kind is OpKind.GEMM and node.region_operands and "weight" not in parameters:
            raise computed_weight(path)
        if entry.kind in self._stubs:
            self._stubs[entry.kind] += 1
        if entry.kind is OpKind.DEQUANT and not node.region_operands:
            self._lost[path] = None
        with self._pause():
            outputs = forward(*args, **kwargs)
            in_place = bool(args) and outputs is args[0] and entry.makes_grid and entry.kind is not OpKind.QUANT
            if in_place and node.region_operands:
                return self.flow.ran_in_place(node, outputs)
            if entry.kind in self._stubs and isinstance(outputs, Tensor):
                outputs = outputs.view_as(outputs)  # a stub's output is another value than its input
            self.flow.ran(node, outputs, _ORIGIN.get(entry.kind))
        return outputs

    def _functional(self, module: nn.Module, path: str) -> Callable[..., Any]:
        def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            self._calls[path] += 1
            entry = function_entry(function, args, kwargs)
            node = Node(entry, path, "FloatFunctional", self._operands(args, kwargs), place=function_name(function))
            if not node.region_operands:
                self._outside.add(path)
            with self._pause():
                outputs = function(*args, **kwargs)
                self.flow.ran(node, outputs)
            return outputs

        return run

    def _operands(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Operand]:
        return [Operand(at, self.flow.value(tensor)) for at, tensor in (*tensors_of(args), *tensors_of(kwargs))]

    # Functions.

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._paused or not self._scopes:
            return func(*args, **kwargs)
        name, entry = function_name(func), function_entry(func, args, kwargs)
        owner = self._scopes[-1].path
        node = Node(entry, owner, name, self._operands(args, kwargs), owner=owner)
        node.keywords = {key: value for key, value in kwargs.items() if not isinstance(value, Tensor)}
        in_region = bool(node.region_operands)
        site = (
            self._site(node, in_region, CALLS[place_of(func)].above) if entry is not None and entry.redirected else None
        )
        if in_region:
            node.place = source_line(1)
            if kwargs.get("out") is not None:
                raise RefusedCallError(
                    f"{name} at {node.place} (in the forward of {owner or 'the model'!r}) writes what it gives into "
                    f"an argument out, where it can't be quantized: write y = {name}(...) instead"
                )
            parts = entry.spelled_out(args, kwargs) if entry is not None else None
            if parts is not None:
                assert site is not None
                site.path = ""
                with self:
                    return parts()
        with self._pause():
            outputs = func(*args, **kwargs)
            if func is Tensor.__setitem__:  # gives nothing: it changes its first operand
                outputs = args[0]
            if node.kind is not OpKind.CONSTANT and any(tensors_of(outputs)):
                operands = (*tensors_of(args), *tensors_of(kwargs))
                self._functional_parameters.update(id(t) for _, t in operands if isinstance(t, nn.Parameter))
            return self._ran_function(node, site, args, outputs)

    def _ran_function(self, node: Node, site: Site | None, args: tuple[Any, ...], outputs: Any) -> Any:
        in_region = bool(node.region_operands)
        # A functional embedding is a constant like others: quantized where a quantized op takes it.
        if node.kind is OpKind.CONSTANT or (node.kind is OpKind.EMBEDDING and not in_region):
            self.flow.declare(outputs, Origin.CONSTANT)
            return outputs
        if in_region and not self._is_known(node, args, outputs):
            node.entry = node.site = None
        elif in_region and site is not None and any(tensors_of(outputs)):
            self._check_not_checkpointed(node)
            if site.path is None:
                site.path = self._generate(node)
            node.path = site.path
        in_place = bool(args) and isinstance(outputs, Tensor) and outputs is args[0] and node.kind is not OpKind.PASS
        if in_place and in_region:
            return self.flow.ran_in_place(node, outputs)
        self.flow.ran(node, outputs)
        return outputs

    @staticmethod
    def _is_known(node: Node, args: tuple[Any, ...], outputs: Any) -> bool:
        """Whether the registry's entry fits this call."""
        if any(tensor.is_complex() for _, tensor in tensors_of((*args, outputs))):
            return False
        if node.kind is OpKind.RESAMPLE:  # keeps the grid of its data, which must have one
            return node.data is not None and node.data.origin is Origin.REGION
        # The one comes here only in a form that is not spelled out, the other only with a table from the region.
        return node.kind not in (OpKind.SPELLED, OpKind.EMBEDDING)

    def _site(self, node: Node, in_region: bool, above: int) -> Site:
        """What is known of the call that is running, `above` frames above the caller.

        It may have run before: its owner may be called twice.
        """
        assert node.entry is not None
        scope = self._scopes[-1]
        place = node.entry.name, call_site(above + 1)
        node.site = CallSite(*place, scope.passed[place])
        scope.passed[place] += scope.step
        site = self._sites.setdefault((scope.path, node.site), Site())
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
        assert node.entry is not None
        assert node.owner is not None
        owner = self._model.get_submodule(node.owner)
        numbers = self._numbers[node.owner, node.entry.name]
        names = (f"_generated_{node.entry.name}_{number}" for number in numbers)
        name = next(name for name in names if not hasattr(owner, name))
        return f"{node.owner}.{name}".removeprefix(".")

    # What must hold when it has run.

    def check(self, outputs: Any) -> None:
        """Raises ValueError where a stub is missing."""
        if not self._stubs[OpKind.QUANT]:
            traced = isinstance(self._model, torch.fx.GraphModule)
            lost = ". A traced or exported model has lost its stubs: give the Python module" if traced else ""
            raise ValueError(
                "no QuantStub ran on the example inputs, so there is nothing to quantize: pass each float input of the "
                "part for the chip through a nashquant.quantization.QuantStub, and each output through a DeQuantStub"
                + lost
            )
        for at, tensor in tensors_of(outputs):
            if self.flow.value(tensor).origin is Origin.REGION:
                producer = self.flow.value(tensor).producer
                came = f" (made by {producer.path!r})" if producer is not None else ""
                raise ValueError(
                    f"output {at or '0'} of the model is still quantized{came}: pass it through a DeQuantStub"
                )
