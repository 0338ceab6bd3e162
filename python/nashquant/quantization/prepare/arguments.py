"""What `prepare` is given, checked before anything runs."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nashquant.nn.qat import Quantized

from .setter import QconfigSetterBase

__all__ = ["PrepareMethod", "check_arguments", "check_folder", "keywords", "positional"]


class PrepareMethod(enum.Enum):
    """The vendor's names for ways to capture a model. Here all four mean the same one.

    nashquant runs the model once on the example inputs, records what ran between the stubs, and keeps the user's
    forward. That is what JIT_STRIP promises. The others are accepted so that a script runs as it is:

    | name | at the vendor's | what is other here |
    |---|---|---|
    | JIT_STRIP | records a run; what lies outside the stubs stays float | nothing |
    | JIT | the same, without leaving out what lies outside the stubs | that stays float too |
    | SYMBOLIC | torch.fx, with a forward written anew | branches and loops work; the forward stays the user's |
    | EAGER | fusion by hand, no graph | fusion is done; example inputs are needed |
    """

    EAGER = "eager"
    SYMBOLIC = "symbolic"
    JIT = "jit"
    JIT_STRIP = "jit-strip"


def check_arguments(model: Any, qconfig_setter: Any, method: Any) -> tuple[QconfigSetterBase, ...]:
    """The setters, however many were given.

    Raises:
        TypeError: the model is no float module of Python, or something else is given as a setter.
        ValueError: the model is prepared already, the method unknown, or the setters do not go together.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"prepare takes an nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(f"this {type(model).__name__} is compiled by TorchScript: give prepare the Python module")
    compiled = next((path for path, module in model.named_modules() if _is_compiled(module)), None)
    if compiled is not None:
        what = repr(compiled) if compiled else f"this {type(model).__name__}"
        raise TypeError(
            f"{what} is compiled by torch.compile: give prepare the module inside, and compile the prepared one"
        )
    if any(isinstance(module, Quantized) for module in model.modules()):
        raise ValueError(f"this {type(model).__name__} is prepared already: give prepare the float model")
    _check_method(method)
    many = isinstance(qconfig_setter, Sequence) and not isinstance(qconfig_setter, str)
    setters = tuple(qconfig_setter) if many else (qconfig_setter,)
    for setter in setters:
        if not isinstance(setter, QconfigSetterBase):
            raise TypeError(
                f"qconfig_setter takes setters, e.g. default_qat_qconfig_setter, not {setter!r}{_hint(setter)}"
            )
    alone = next((type(setter).__name__ for setter in setters if setter.stands_alone), None)
    if alone is not None and len(setters) > 1:
        raise ValueError(
            f"{alone} stands alone, but qconfig_setter has {len(setters)} setters: among its templates the later "
            "override the earlier, in a tuple of the older setters the first wins. Say it all in templates, e.g. "
            "ModuleNameTemplate and SensitivityTemplate, or all in the older setters"
        )
    if not setters:
        raise ValueError("qconfig_setter is empty: give at least one, e.g. default_calibration_qconfig_setter")
    return setters


def _is_compiled(module: nn.Module) -> bool:
    # By its name: the class itself takes long to import.
    return type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules


def _hint(setter: Any) -> str:
    if type(setter).__name__.endswith("Template"):
        return ": a template goes into QconfigSetter(get_qconfig(), templates=[...])"
    return ": it must be called with a table first" if callable(setter) else ""


def _check_method(method: Any) -> None:
    known = {name for each in PrepareMethod for name in (each, each.value, each.name)}
    if method not in known:
        names = ", ".join(each.name for each in PrepareMethod)
        raise ValueError(f"method is {method!r}, expected a PrepareMethod: {names}")


def positional(example_inputs: Any, more_example_inputs: Any) -> list[tuple[Any, ...]]:
    """The positional inputs of each run.

    Raises:
        TypeError: `more_example_inputs` is no list.
    """
    if not isinstance(more_example_inputs, (tuple, list)):
        kind = type(more_example_inputs).__name__
        raise TypeError(f"more_example_inputs takes a list of inputs, each as in example_inputs, not a {kind}")
    runs = (example_inputs, *more_example_inputs)
    return [tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,) for inputs in runs]


def keywords(example_kw_inputs: Any) -> dict[str, Any]:
    """The keyword inputs of each run.

    Raises:
        TypeError: they are no dict.
    """
    if example_kw_inputs is not None and not isinstance(example_kw_inputs, dict):
        raise TypeError(f"example_kw_inputs takes a dict of keyword inputs, not {type(example_kw_inputs).__name__}")
    return dict(example_kw_inputs or {})


def check_folder(save_dir: str | os.PathLike[str] | None) -> None:
    """A folder, or none yet, so that the report can be written once all is done.

    Raises:
        NotADirectoryError: it is a file.
    """
    if save_dir is not None and Path(save_dir).exists() and not Path(save_dir).is_dir():
        raise NotADirectoryError(f"save_dir is {str(save_dir)!r}, which is a file; expected a folder, or None")
