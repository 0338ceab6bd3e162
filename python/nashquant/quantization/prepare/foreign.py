"""A state_dict of another model, or with a bad scale, is refused before its first tensor is copied."""

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
        TypeError: `state_dict` is no mapping.
        RuntimeError: a shape differs, or a scale is bad; with `strict`, a key is missing or unknown. Nothing was
            loaded.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict is {type(state_dict).__name__}, expected a mapping of names to tensors")
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
    bad = []
    for path, module in model.named_modules():
        if isinstance(module, FakeQuantize):
            prefix = f"{path}." if path else ""
            problem = module.loading_problem(state_dict.get(f"{prefix}scale"), state_dict.get(f"{prefix}zero_point"))
            if problem:
                bad.append(f"{problem} (for {module.name or path!r})")
    if problems or bad:
        what = "is of another model than" if problems else "has values that do not fit"
        listed = problems + bad
        more = f"; and {len(listed) - 6} more" if len(listed) > 6 else ""
        raise RuntimeError(
            f"this state_dict {what} this {type(model).__name__}, nothing was loaded: "
            f"{'; '.join(listed[:6])}{more}{_hint(state_dict, own)}"
        )


_WRAPPED = {
    "module.": "DistributedDataParallel and DataParallel have",
    "_orig_mod.": "torch.compile has",
    "module._orig_mod.": "DistributedDataParallel of what torch.compile gave has",
    "_orig_mod.module.": "torch.compile of a DistributedDataParallel has",
}


def _hint(state_dict: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """What to do about keys that a wrapper put a name before, and about a checkpoint around the state_dict."""
    for key, inside in state_dict.items():
        if isinstance(inside, Mapping) and not own.keys().isdisjoint(inside):
            return f". Its entry {key!r} has the model's keys: load that one"
    for prefix, wrapper in _WRAPPED.items():
        if state_dict and all(key.startswith(prefix) and key.removeprefix(prefix) in own for key in state_dict):
            inner = prefix.rstrip(".")
            return (
                f". All its keys begin with {prefix!r}, as {wrapper} it: save model.{inner}.state_dict(), or load "
                f"{{key.removeprefix({prefix!r}): value for key, value in state_dict.items()}}"
            )
    return ""


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape) or (1,)  # one number with and without an axis is the same to torch too
