"""What the root of a prepared model knows besides its forward: its report."""

from __future__ import annotations

from torch import nn

from .report import ModelCheckResult

__all__ = ["check_result_of", "remember"]


def remember(model: nn.Module, result: ModelCheckResult) -> None:
    """Gives the root of a prepared model its report."""
    vars(model)["_model_check_result"] = result


def check_result_of(model: nn.Module) -> ModelCheckResult:
    """The report of a prepared model.

    Raises:
        ValueError: `model` is not what `prepare` returned.
    """
    result = vars(model).get("_model_check_result")
    if not isinstance(result, ModelCheckResult):
        raise ValueError(f"this {type(model).__name__} is not what prepare returned")
    return result
