"""A state_dict of another model is refused before its first tensor is copied."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nashquant.quantization.fake_quantize import FakeQuantize

__all__ = ["check_state_dict"]


def check_state_dict(model: Any, state_dict: Mapping[str, Any], strict: bool) -> None:
    """Compares keys and shapes.

    Raises:
        RuntimeError: a shape differs, or a scale is none; with `strict`, a key is missing or unknown. Nothing was
            loaded.
    """
    own = model.state_dict()
    problems = [
        f"{key!r} has shape {tuple(state_dict[key].shape)}, the model has {tuple(own[key].shape)}"
        for key in own
        if isinstance(state_dict.get(key), Tensor) and _shape(state_dict[key]) != _shape(own[key])
    ]
    if strict:
        derived = {
            f"{path}.{name}".removeprefix(".")
            for path, module in model.named_modules()
            if isinstance(module, FakeQuantize)
            for name in module.derived_keys
        }
        problems += [f"{key!r} is missing" for key in own if key not in state_dict and key not in derived]
        for key in state_dict:
            if key not in own:
                near = difflib.get_close_matches(key, own, n=1)
                problems.append(f"{key!r} is not in the model" + (f" (near: {near[0]!r})" if near else ""))
    for path, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            prefix = f"{path}." if path else ""
            problem = module.loading_problem(state_dict.get(f"{prefix}scale"), state_dict.get(f"{prefix}zero_point"))
            if problem:
                problems.append(f"{problem} (for {module.name or path!r})")
    if problems:
        more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise RuntimeError(
            f"this state_dict is of another model than this {type(model).__name__}, nothing was loaded: "
            f"{'; '.join(problems[:6])}{more}"
        )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape) or (1,)  # one number with and without an axis is the same to torch too
