"""What the observers of a model hold, apart from its weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["get_observer_state_dict", "load_observer_state_dict"]


def get_observer_state_dict(mod: nn.Module) -> OrderedDict[str, Any]:
    """The entries of `mod`'s state_dict that observers and fake quantizers hold."""
    state = mod.state_dict()
    found = OrderedDict((key, value) for key, value in state.items() if "activation_post_process" in key)
    found._metadata = state._metadata  # type: ignore[attr-defined]
    return found


def load_observer_state_dict(mod: nn.Module, obs_dict: Mapping[str, Any]) -> None:
    """Puts what `get_observer_state_dict` gave back into the observers of `mod`; those not in it stay as they are.

    Raises:
        RuntimeError: an entry has another shape than its observer.
    """
    state, errors = dict(obs_dict), list[str]()
    for name, module in mod.named_modules():
        if hasattr(module, "calculate_qparams"):  # observers and fake quantizers, ours and torch.ao's
            module._load_from_state_dict(state, f"{name}.", {"version": 3}, False, [], [], errors)
    if errors:
        raise RuntimeError("; ".join(errors))
