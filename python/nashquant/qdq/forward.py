"""How the model behind a file is called: what its forward takes and gives, where ONNX has a flat row of tensors."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .tree import Slot, decoded, encoded, filled, matched, shown, simple, slots

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Forward"]

KEY = "nashquant.forward"  # of the file's metadata
_KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "",
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
}


@dataclass(frozen=True)
class Parameter:
    """One of forward, and what it takes: `Slot`s in dicts, lists and tuples; whatever else is constant in the file.

    Its kind is "*", "**", "keyword", or empty for one that may be given by its place too.
    """

    name: str
    kind: str
    tree: Any

    def __str__(self) -> str:
        stars = self.kind if "*" in self.kind else ""
        return f"{stars}{self.name}" if isinstance(self.tree, Slot) else f"{stars}{self.name}: {shown(self.tree)}"


@dataclass(frozen=True)
class Forward:
    """The parameters of a forward, and its result, a tree as of `Parameter`."""

    parameters: tuple[Parameter, ...]
    result: Any

    @classmethod
    def of(cls, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Forward:
        """Of a call of `function` whose tensors, and those of its `result`, are `Slot`s.

        Those in something else than dicts, lists, tuples and dataclasses are lost, so that `read` finds a `flat` file.
        """
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parameters = (
            Parameter(name, _KINDS[signature.parameters[name].kind], simple(value))
            for name, value in bound.arguments.items()
        )
        return cls(tuple(parameters), simple(result))

    @classmethod
    def flat(cls, inputs: Sequence[str], outputs: Sequence[str]) -> Forward:
        """Of a file that says nothing: its inputs in a row, and its outputs; a single one by itself."""
        gives = tuple(map(Slot, outputs))
        return cls(tuple(Parameter(name, "", Slot(name)) for name in inputs), gives[0] if len(gives) == 1 else gives)

    @classmethod
    def read(cls, model: ir.Model) -> Forward:
        """What the file says; `flat` if it says nothing, or has other inputs or outputs than those it speaks of."""
        names = [[str(value.name) for value in values] for values in (model.graph.inputs, model.graph.outputs)]
        try:
            content = json.loads(model.metadata_props.get(KEY, ""))
            parameters = (Parameter(str(name), str(kind), decoded(tree)) for name, kind, tree in content["takes"])
            found = cls(tuple(parameters), decoded(content["gives"]))
            takes, gives = [slots([each.tree for each in found.parameters]), slots(found.result)]
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls.flat(*names)
        return found if [sorted(takes), sorted(gives)] == [sorted(each) for each in names] else cls.flat(*names)

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.parameters))})"

    def write(self, model: ir.Model) -> None:
        """Says it in the file."""
        takes = [[each.name, each.kind, encoded(each.tree)] for each in self.parameters]
        model.metadata_props[KEY] = json.dumps({"takes": takes, "gives": encoded(self.result)})

    def tensors(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors among the arguments of a call, by the names of the file's inputs.

        Raises:
            TypeError: something stands where a tensor was expected.
            ValueError: the arguments are laid out otherwise, or another number is given where one is constant.
        """
        given = self._bound(args, kwargs)
        found: dict[str, Tensor] = {}
        for parameter in self.parameters:
            if parameter.name in given:
                found.update(matched(parameter.tree, given[parameter.name], parameter.name))
            elif slots(parameter.tree):
                raise ValueError(f"input {parameter.name!r} is missing: the model takes {self}")
        return found

    def batch(self, data: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call of which `data` holds all: a tuple or list of them, a dict by name, or the only one.

        A dict is the first argument where forward takes a dict there, unless it has names of arguments, and other keys.
        """
        if isinstance(data, (tuple, list)):
            return tuple(data), {}
        if not isinstance(data, Mapping):
            return (data,), {}
        first = self.parameters[0] if self.parameters else None
        if first is None or first.kind or not isinstance(first.tree, dict):
            return (), dict(data)
        named = data.keys() != first.tree.keys() and data.keys() <= {each.name for each in self.parameters}
        return ((), dict(data)) if named else ((data,), {})

    def results(self, outputs: Mapping[str, Tensor]) -> Any:
        """The tensors `outputs` laid out as forward gave them; dataclasses are dicts, named tuples are tuples."""
        return filled(self.result, outputs)

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        by_place = [each for each in self.parameters if not each.kind]
        star, stars = (next((p for p in self.parameters if p.kind == kind), None) for kind in ("*", "**"))
        given = dict(zip((each.name for each in by_place), args, strict=False))
        rest, more = args[len(by_place) :], dict[str, Any]()
        for name, value in kwargs.items():
            named = any(each.name == name and "*" not in each.kind for each in self.parameters)
            if name in given or not (named or stars):
                problem = "is given twice" if name in given else "is not known"
                raise ValueError(f"input {name!r} {problem}: the model takes {self}")
            (given if named else more)[name] = value
        if rest and star is None:
            raise ValueError(f"the model takes {self}, but {len(args)} arguments were given")
        return {**given, **({star.name: tuple(rest)} if star else {}), **({stars.name: more} if stars else {})}
