"""Nested values with tensors in them: dicts, lists and tuples, in which a `Slot` says where a tensor stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

__all__ = ["Slot", "decoded", "encoded", "filled", "matched", "shown", "simple", "slots"]

_SIMPLE = (bool, int, float, str, type(None))  # what JSON has words for
_LONGEST = 300  # characters of a layout in an error


@dataclass(frozen=True)
class Slot:
    """Where a tensor stands: the input or output of the file with this name."""

    name: str

    def __repr__(self) -> str:
        return "tensor"


@dataclass(frozen=True)
class Object:
    """Something that no file holds."""

    name: str

    def __repr__(self) -> str:
        return self.name


def simple(tree: Any) -> Any:
    """`tree` in dicts, lists and tuples; what JSON has no word for by the name of its type."""
    if is_dataclass(tree) and not isinstance(tree, (type, Slot)):
        return {each.name: simple(getattr(tree, each.name)) for each in fields(tree)}
    if isinstance(tree, Mapping) and all(isinstance(key, (str, int)) for key in tree):
        return {key: simple(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [*map(simple, tree)] if isinstance(tree, list) else tuple(map(simple, tree))
    if isinstance(tree, (*_SIMPLE, Slot)):
        return tree
    return Object(type(tree).__name__)


def encoded(tree: Any) -> Any:
    """`simple` values for JSON."""
    if isinstance(tree, Slot):
        return {"tensor": tree.name}
    if isinstance(tree, dict):
        return {"dict": [[key, encoded(value)] for key, value in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return {type(tree).__name__: [*map(encoded, tree)]}
    return {"object": tree.name} if isinstance(tree, Object) else {"value": tree}


def decoded(content: dict[str, Any]) -> Any:
    """What `encoded` made JSON of.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    ((kind, value),) = content.items()
    makers: dict[str, Callable[[Any], Any]] = {
        "tensor": Slot,
        "dict": lambda pairs: {key: decoded(each) for key, each in pairs},
        "list": lambda parts: [*map(decoded, parts)],
        "tuple": lambda parts: tuple(map(decoded, parts)),
        "object": Object,
        "value": lambda value: value,
    }
    return makers[kind](value)


def _parts(tree: Any) -> dict[Any, Any]:
    return dict(tree if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (list, tuple)) else ())


def slots(tree: Any) -> list[str]:
    """The names in `tree`."""
    return [tree.name] if isinstance(tree, Slot) else [name for part in _parts(tree).values() for name in slots(part)]


def matched(tree: Any, value: Any, where: str) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of `value` with the name of its `Slot` in `tree`; `where` is what errors call it.

    Raises:
        TypeError: something stands where a tensor was expected.
        ValueError: `value` is laid out otherwise, or another number is given where one is constant.
    """
    if is_dataclass(value) and not isinstance(value, type) and isinstance(tree, dict):
        value = {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(tree, Slot):
        if not isinstance(value, Tensor):
            raise TypeError(f"input {where!r} is {type(value).__name__}, expected a torch.Tensor")
        yield tree.name, value
    elif isinstance(tree, (dict, list, tuple)):
        kind = Mapping if isinstance(tree, dict) else (list, tuple)
        if not isinstance(value, kind) or _parts(value).keys() != _parts(tree).keys():
            raise ValueError(f"input {where!r} is {shown(value)}, expected {shown(tree)}")
        for key, part in _parts(tree).items():
            yield from matched(part, value[key], f"{where}.{key}")
    elif not _constant(tree, value):
        raise ValueError(f"input {where!r} is {shown(value)}, but {tree!r} is constant in the file")


def _constant(tree: Any, value: Any) -> bool:
    """Whether `value` is `tree`; of what no file holds, whether it is of that type."""
    if isinstance(tree, Object):
        return type(value).__name__ == tree.name
    both_nan = value != value and tree != tree if isinstance(value, float) else False
    return isinstance(value, _SIMPLE) and (value == tree or both_nan)


def filled(tree: Any, outputs: Mapping[str, Tensor]) -> Any:
    """`tree` with tensors in their places; None for what no file holds."""
    if isinstance(tree, Slot):
        return outputs[tree.name]
    if isinstance(tree, dict):
        return {key: filled(part, outputs) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(filled(part, outputs) for part in tree)
    return None if isinstance(tree, Object) else tree


def shown(value: Any) -> str:
    """The layout of `value`, or the first of it: `{'image': tensor, 'boxes': [tensor, tensor]}`."""
    text = _spelled(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _spelled(value: Any) -> str:
    if isinstance(value, (Slot, Tensor)):
        return "tensor"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_spelled(part)}' for key, part in value.items())}}}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_spelled, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    return repr(value) if isinstance(value, (*_SIMPLE, Object)) else type(value).__name__
