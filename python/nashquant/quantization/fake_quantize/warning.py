"""What is said when a calibration did not do what it seems to have done."""

from __future__ import annotations

import warnings

__all__ = ["CalibrationWarning", "Notices"]


class CalibrationWarning(UserWarning):
    """A scale was not, or will not be, learned from data although it looks as if it were."""


class Notices:
    """Says each thing once. The quantizers of a model share one, so that it is said once per model.

    Attributes:
        state: the name of the state that set_fake_quantize put the model into; empty before the first.
    """

    def __init__(self, state: str = "") -> None:
        self.state = state
        self._said: set[str] = set()

    def say_once(self, key: str, message: str) -> None:
        """Warns with `message`, unless something was said under `key` before."""
        if key not in self._said:
            self._said.add(key)
            warnings.warn(message, CalibrationWarning, stacklevel=2)

    def say_no_more(self, key: str) -> None:
        """Counts `key` as said."""
        self._said.add(key)


def eval_ended_calibration(where: str) -> str:
    """Observers on, fake quantization off, and the quantizer not in training mode."""
    return (
        f"eval() was called after set_fake_quantize(CALIBRATION): nothing is observed (first met at {where}) "
        "and scales stay as they are. Call model.eval() first, then "
        "set_fake_quantize(model, FakeQuantState.CALIBRATION), then run the data"
    )


def scale_never_set(where: str) -> str:
    """Fake quantization with a fresh scale."""
    return (
        f"{where} quantizes with scale 1, because its scale was never set. Calibrate first (model.eval(), "
        "then set_fake_quantize(model, FakeQuantState.CALIBRATION), then run the data), or load a calibrated "
        "checkpoint. unset_scales(model) lists all such quantizers"
    )


def scales_never_set(names: list[str], of: int) -> str:
    """VALIDATION of a model with fresh scales."""
    return (
        f"{len(names)} of {of} quantizers never had their scale set, and would quantize with scale 1: "
        f"{_some(names)}. Either calibration did not observe them (call set_fake_quantize(model, "
        "FakeQuantState.CALIBRATION), then run the data, without eval() in between), or no checkpoint was "
        "loaded, or no data reaches them in this model; only in the last case is it harmless"
    )


def fixed_scale_kept(where: str, loaded: str, kept: str) -> str:
    """A checkpoint says something else than a FixedScaleObserver."""
    return (
        f"{where!r} has the fixed scale {kept}; the scale {loaded} of the checkpoint is not taken: the scale "
        "of a FixedScaleObserver is configured, not learned"
    )


def state_was_loaded(where: str, state: str) -> str:
    """A checkpoint that was saved in another state than the model's."""
    return (
        f"load_state_dict ended the state {state}: quantizers do what those of the checkpoint did (first met at "
        f"{where}). Call set_fake_quantize(model, FakeQuantState.{state}) again, after load_state_dict"
    )


def still_training(state: str, names: list[str]) -> str:
    """CALIBRATION or VALIDATION while dropouts drop and batch norms follow the data."""
    return (
        f"set_fake_quantize({state}) while in train mode: {_some(names)}. Dropouts drop, and batch norms follow the "
        f"data: call model.eval() first, then set_fake_quantize(model, FakeQuantState.{state})"
    )


def nothing_to_set(model: str) -> str:
    """set_fake_quantize without a quantizer."""
    return (
        f"set_fake_quantize changed nothing: there is no quantizer in this {model}. "
        "Was it prepared? prepare() returns the model to use"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
