"""What the root of a prepared model knows besides its forward: its report, and how to load a state_dict safely."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .report import ModelCheckResult

__all__ = ["check_result_of", "make_prepared"]


def make_prepared(model: nn.Module, result: ModelCheckResult) -> None:
    """Gives the root its report, and a check before anything is loaded into it."""
    model._model_check_result = result  # type: ignore[assignment]
    model.register_load_state_dict_pre_hook(_refuse_foreign)  # type: ignore[no-untyped-call]


def check_result_of(model: nn.Module) -> ModelCheckResult:
    """The report of a prepared model.

    Raises:
        ValueError: `model` is not what `prepare` returned.
    """
    result = vars(model).get("_model_check_result")
    if not isinstance(result, ModelCheckResult):
        raise ValueError(f"this {type(model).__name__} is not what prepare returned")
    return result


def _refuse_foreign(
    model: nn.Module,
    state_dict: Mapping[str, Any],
    prefix: str,
    local_metadata: Any,
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Raises before the first tensor is copied, so that a state_dict of another model changes nothing."""
    own = model.state_dict()
    given = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    problems = [
        f"{key!r} has shape {tuple(given[key].shape)}, the model has {tuple(own[key].shape)}"
        for key in own
        if isinstance(given.get(key), Tensor) and given[key].numel() != own[key].numel()
    ]
    if strict:
        problems += [f"{key!r} is missing" for key in own if key not in given]
        for key in given:
            if key not in own:
                near = difflib.get_close_matches(key, own, n=1)
                problems.append(f"{key!r} is not in the model" + (f" (near: {near[0]!r})" if near else ""))
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise RuntimeError(
            f"this state_dict is of another model than this {type(model).__name__}, nothing was loaded: "
            f"{'; '.join(problems[:6])}{more}"
        )
