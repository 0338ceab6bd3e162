"""`prepare`: a float model becomes one that calibrates and trains quantized."""

from __future__ import annotations

import copy
import enum
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nashquant.march import require_march
from nashquant.nn.qat import Quantized
from nashquant.qat_mode import get_qat_mode
from nashquant.quantization.fake_quantize import Notices, Quantizer

from .assign import assign_qconfigs
from .capture import Recording, capture
from .dynamic import dynamic_block
from .files import write_dtypes, write_report
from .fx_graph import GraphRow
from .plan import Change, Plan
from .prepared import check_result_of, remember
from .redirect import UnrecordedCallError
from .refused import CheckpointedCallError, computed_weight
from .registry import MISSING
from .replace import replace_ops
from .report import LayerRow, ModelCheckResult, WeightRow, check_result
from .setter import QconfigSetterBase, Request

__all__ = [
    "Change",
    "CheckpointedCallError",
    "GraphRow",
    "LayerRow",
    "ModelCheckResult",
    "PrepareMethod",
    "QconfigSetterBase",
    "Request",
    "UnknownOpWarning",
    "UnrecordedCallError",
    "WeightRow",
    "check_result_of",
    "dynamic_block",
    "prepare",
]

_log = logging.getLogger("nashquant")


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


class UnknownOpWarning(UserWarning):
    """An op between the stubs stays in floating point."""


def prepare(
    model: nn.Module,
    example_inputs: Any,
    qconfig_setter: QconfigSetterBase | Sequence[QconfigSetterBase],
    example_kw_inputs: dict[str, Any] | None = None,
    method: PrepareMethod | str = PrepareMethod.JIT_STRIP,
    save_dir: str | os.PathLike[str] | None = ".",
    strict: bool = False,
    more_example_inputs: Sequence[Any] = (),
) -> nn.Module:
    """Turns a float model into one that calibrates and trains quantized. The model given is not changed.

    The model runs once on the example inputs, and once on each of `more_example_inputs`. What ran between QuantStub and
    DeQuantStub gets quantizers: modules become those of `nashquant.nn.qat`, functional calls get modules
    `_generated_<op>_<i>` beside the code that makes them. The forward is still the user's, branches and loops included.

    Args:
        model: float, with a QuantStub at each input and a DeQuantStub at each output of the part for the chip.
        example_inputs: the positional inputs: a tuple, or a single tensor.
        qconfig_setter: how ops are quantized: a QconfigSetter with its templates, or one or several of the older
            setters, of which the first that speaks for an op wins.
        example_kw_inputs: the keyword inputs.
        method: a `PrepareMethod`, or its value or name; all mean the same here.
        save_dir: folder for model_check_result.txt, fx_graph.txt, qconfig_changelogs.txt, qconfig_dtypes.pt and
            qconfig_dtypes.pt.py, made where missing; None writes nothing. The last three go to the setter's own
            `save_dir` where it has one. `check_result_of(prepared)` gives the report as an object.
        strict: refuse to fall back: where the march has not the dtype that was asked, raise.
        more_example_inputs: where one run does not pass every call of forward (a branch on data, a longer loop): for
            each way through it, inputs as in `example_inputs`; the keyword inputs are those of `example_kw_inputs`.
            What lies on several ways is one op, with one scale.

    Raises:
        RuntimeError: no march was set.
        TypeError: an argument of the wrong kind.
        ValueError: the model does not run on the inputs or lacks stubs; a setter names an op that isn't there, asks by
            name for a dtype the march lacks, or names ops behind a setter that speaks for all; with `strict`, anything
            fell back: all of it is listed.
        CheckpointedCallError: a call runs in a closure given to torch.utils.checkpoint.
        NotImplementedError: a call between the stubs writes into an argument `out`, or a hook computes the weight of a
            conv or linear there.

    Warns:
        UnknownOpWarning: an op stays in floating point because nashquant doesn't know it.
    """
    march = require_march("prepare")
    setters = _check_arguments(model, qconfig_setter, method)
    mode = get_qat_mode()
    if example_kw_inputs is not None and not isinstance(example_kw_inputs, dict):
        raise TypeError(f"example_kw_inputs takes a dict of keyword inputs, not {type(example_kw_inputs).__name__}")
    if not isinstance(more_example_inputs, (tuple, list)):
        kind = type(more_example_inputs).__name__
        raise TypeError(f"more_example_inputs takes a list of inputs, each as in example_inputs, not a {kind}")
    args, *more = (
        tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        for inputs in (example_inputs, *more_example_inputs)
    )
    kwargs = dict(example_kw_inputs or {})

    prepared = _copied(model)
    recording = capture(model, (args, *more), kwargs)
    plan = assign_qconfigs(recording, model, setters, march, (args, kwargs), mode)
    if strict:
        _refuse_fallbacks(plan)
    result = check_result(model, plan, recording.calls, mode)
    replace_ops(prepared, plan, recording)
    remember(prepared, result)

    _share_notices(prepared)
    _tell(result, plan, recording)
    if save_dir is not None:
        write_report(Path(save_dir), result)
    dtypes_dir = next((setter.save_dir for setter in setters if setter.save_dir is not None), save_dir)
    if dtypes_dir is not None:
        write_dtypes(Path(dtypes_dir), plan)
    return prepared


def _copied(model: nn.Module) -> nn.Module:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                if name == "weight" and {"weight_g", "weight_orig"} & module._parameters.keys():
                    raise computed_weight(path)
                where = f"{path}.{name}".removeprefix(".")
                raise ValueError(
                    f"{where!r} is a tensor with a gradient history, which can't be copied: detach it before prepare, "
                    "or make it a buffer"
                )
    return copy.deepcopy(model)


def _check_arguments(model: Any, qconfig_setter: Any, method: Any) -> tuple[QconfigSetterBase, ...]:
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
    setters = tuple(qconfig_setter) if isinstance(qconfig_setter, Sequence) else (qconfig_setter,)
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


def _refuse_fallbacks(plan: Plan) -> None:
    fallbacks = [str(change) for change in plan.changes if change.fallback]
    if fallbacks:
        lines = "\n  ".join(fallbacks)
        raise ValueError(f"strict: {len(fallbacks)} dtype(s) that were asked can't be given:\n  {lines}")


def _share_notices(prepared: nn.Module) -> None:
    """What quantizers have to say is said once for the model, not once for each."""
    notices = Notices()
    for module in prepared.modules():
        if isinstance(module, Quantizer):
            module.share_notices(notices)


def _tell(result: ModelCheckResult, plan: Plan, recording: Recording) -> None:
    for warning in plan.graph.warnings:
        _log.warning("nashquant: %s", warning)
    for name in recording.lost:
        warnings.warn(
            f"the DeQuantStub {name!r} got a tensor that was not seen to come from a QuantStub: an op that is no torch "
            "function (autograd.Function, TorchScript, NumPy) hides what is behind it, which stays in floating point",
            UnknownOpWarning,
            stacklevel=3,
        )
    if result.float_ops:
        places = {f"{n.path}[{n.label}]".removeprefix("."): n.place for n in recording.nodes if n.entry is None}
        shown = [name + (f" at {places[name]}" if places.get(name) else "") for name, _ in result.float_ops[:8]]
        names = ", ".join(shown) + (", ..." if len(result.float_ops) > 8 else "")
        unknown = dict.fromkeys(node.label for node in recording.nodes if node.entry is None)
        hints = "".join(f". {name}: {MISSING[name]}" for name in unknown if name in MISSING)
        warnings.warn(
            f"nashquant does not know {len(result.float_ops)} op(s) between QuantStub and DeQuantStub; they stay in "
            f"floating point: {names}{hints}",
            UnknownOpWarning,
            stacklevel=3,
        )
