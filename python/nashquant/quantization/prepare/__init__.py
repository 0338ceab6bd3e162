"""`prepare`: a float model becomes one that calibrates and trains quantized."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nashquant.march import require_march
from nashquant.qat_mode import get_qat_mode
from nashquant.quantization.fake_quantize import Notices, Quantizer

from .arguments import PrepareMethod, check_arguments, check_folder, keywords, positional
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
        NotADirectoryError: `save_dir` is a file.
        NotImplementedError: a call between the stubs writes into an argument `out`, or a hook computes the weight of a
            conv or linear there.

    Warns:
        UnknownOpWarning: an op stays in floating point because nashquant doesn't know it.
    """
    march = require_march("prepare")
    setters = check_arguments(model, qconfig_setter, method)
    check_folder(save_dir)
    mode = get_qat_mode()
    args, *more = positional(example_inputs, more_example_inputs)
    kwargs = keywords(example_kw_inputs)

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
