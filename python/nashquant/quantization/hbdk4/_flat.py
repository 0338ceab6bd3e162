"""A model seen as ONNX sees it: a flat row of named tensors in, a flat row of tensors out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from nashquant.qdq import Slot

Path = tuple[Any, ...]


class FlatInputs:
    """The arguments of one call, taken apart: `tensors`, and `names` after the parameters of forward.

    What is no tensor (a number, a bool, None) is a constant of the exported model.
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        leaves, self._spec = pytree.tree_flatten_with_path((args, dict(kwargs)))
        self._parameters = list(inspect.signature(model.forward).parameters.values())
        self._leaves = [leaf for _, leaf in leaves]
        self._places = [i for i, leaf in enumerate(self._leaves) if isinstance(leaf, Tensor)]
        # One tensor given twice is two inputs; torch.export would take it for one.
        seen: set[int] = set()
        self.tensors: tuple[Tensor, ...] = ()
        for tensor in (self._leaves[i] for i in self._places):
            self.tensors += (tensor.clone() if id(tensor) in seen else tensor,)
            seen.add(id(tensor))
        self._shown = ", ".join(self._show(leaves[i][0]) for i in self._places)
        self.paths = [self._path(leaves[i][0]) for i in self._places]
        self.names = [".".join(map(str, path)) for path in self.paths]

    def _path(self, path: Path) -> Path:
        """Where a tensor is: the parameter of forward, then keys and indices inside of it."""
        _, first, *rest = map(_key, path)
        if isinstance(first, str):
            return first, *rest
        for i, parameter in enumerate(self._parameters):
            if parameter.kind is parameter.VAR_POSITIONAL:
                return parameter.name, first - i, *rest
            if i == first:
                return parameter.name, *rest
        return f"arg{first}", *rest

    def _show(self, path: Path) -> str:
        """A tensor's name, with `=` behind it if it is given by keyword."""
        return ".".join(map(str, self._path(path))) + ("=" if isinstance(_key(path[1]), str) else "")

    def arguments(self, tensors: Sequence[Tensor | Slot]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments with `tensors` in place of the example ones."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return args, kwargs

    def shapes(self, dynamic_shapes: Any) -> tuple[Any, ...]:
        """One shape for each tensor out of `dynamic_shapes`, which is laid out as torch.export takes it.

        Raises:
            ValueError: `dynamic_shapes` does not follow the arguments.
        """
        if dynamic_shapes is not None and not isinstance(dynamic_shapes, Mapping):
            names = [parameter.name for parameter in self._parameters]
            dynamic_shapes = dict(zip(names, dynamic_shapes, strict=False))
        return tuple(_shape_at(path, dynamic_shapes) for path in self.paths)

    def batch_shapes(self, dynamic_shapes: Any) -> tuple[Any, ...]:
        """One shape for each tensor, of which the first axis is the batch and may change.

        Raises:
            ValueError: the tensors have no batch in common, or one of a single sample; other shapes are given too.
        """
        if dynamic_shapes is not None:
            raise ValueError("dynamic_batch and dynamic_shapes can't both be given: name the batch in dynamic_shapes")
        sizes = {tuple(x.shape[:1]) for x in self.tensors}
        if len(sizes) != 1 or not sizes.isdisjoint({(), (0,), (1,)}):
            raise ValueError(
                "dynamic_batch needs inputs with one first axis of two or more in common, but they have "
                + ", ".join(f"{name}: {list(x.shape)}" for name, x in zip(self.names, self.tensors, strict=True))
            )
        batch = Dim("batch")
        return tuple({0: batch} for _ in self.tensors)

    def like(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The tensors of other arguments, which must be laid out like these.

        Raises:
            ValueError: they are not: other places, types or numbers, or a tensor of another dtype.
        """
        leaves, spec = pytree.tree_flatten(_in_order((args, dict(kwargs)), self._example()))
        if spec != self._spec:
            given = pytree.tree_flatten_with_path((args, dict(kwargs)))[0]
            names = ", ".join(self._show(path) for path, _ in given)
            raise ValueError(
                f"the inputs ({names or 'none'}) are not laid out as the example inputs were ({self._shown})"
            )
        for i, (leaf, known) in enumerate(zip(leaves, self._leaves, strict=True)):
            if isinstance(known, Tensor) != isinstance(leaf, Tensor) or not (i in self._places or leaf == known):
                raise ValueError(
                    f"what was no tensor is a constant of the exported model: {known!r} was given, not {leaf!r}"
                    if i not in self._places
                    else f"the inputs must be tensors where the example inputs were, not {type(leaf).__name__}"
                )
        return tuple(leaves[i] for i in self._places)

    def _example(self) -> Any:
        return pytree.tree_unflatten(self._leaves, self._spec)


def _in_order(tree: Any, example: Any) -> Any:
    """`tree` with the keys of its dicts in the order of `example`, where they are the same keys."""
    if type(tree) is dict and isinstance(example, dict) and tree.keys() == example.keys():
        return {key: _in_order(tree[key], value) for key, value in example.items()}
    if type(tree) is type(example) and type(tree) in (list, tuple) and len(tree) == len(example):
        return type(tree)(map(_in_order, tree, example))
    return tree


class Flat(nn.Module):
    """Calls `model` with flat tensors and gives the tensors of its output as a flat tuple."""

    def __init__(self, model: nn.Module, inputs: FlatInputs) -> None:
        super().__init__()
        self.model = model
        self._inputs = inputs
        self.training = False  # not `self.eval()`, which would also reach into the model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the model's output, in order."""
        args, kwargs = self._inputs.arguments(tensors)
        return tuple(tensor for _, tensor in flat_outputs(self.model(*args, **kwargs)))


def flat_outputs(output: Any) -> list[tuple[str, Tensor]]:
    """Each tensor of a model's output with its name: `output`, or `output.0`, `output.boxes.1` inside."""
    leaves, _ = pytree.tree_flatten_with_path(_opened(output))
    return [
        (".".join(["output", *(str(_key(key)) for key in path)]), leaf)
        for path, leaf in leaves
        if isinstance(leaf, Tensor)
    ]


def with_slots(output: Any, names: Sequence[str]) -> Any:
    """A model's output with the names of its tensors in their places."""
    leaves, spec = pytree.tree_flatten(_opened(output))
    left = iter(names)
    return pytree.tree_unflatten([Slot(next(left)) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec)


def _opened(tree: Any) -> Any:
    """`tree` with dataclasses as dicts of their fields: torch knows only those that are registered with it."""

    def opened(leaf: Any) -> Any:
        is_open = not is_dataclass(leaf) or isinstance(leaf, type)
        return leaf if is_open else {each.name: _opened(getattr(leaf, each.name)) for each in fields(leaf)}

    return pytree.tree_map(opened, tree, is_leaf=is_dataclass)


def _key(key: Any) -> Any:
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return getattr(key, attribute)
    return str(key)


def _shape_at(path: Path, shapes: Any) -> Any:
    for depth, key in enumerate(path):
        if shapes is None:
            return None
        try:
            # A parameter that is not mentioned has a static shape, as in torch.export.
            shapes = shapes.get(key) if depth == 0 else shapes[key]
        except (KeyError, IndexError, TypeError) as error:
            where = ".".join(map(str, path))
            raise ValueError(f"dynamic_shapes has no entry for {where!r}") from error
    return shapes
