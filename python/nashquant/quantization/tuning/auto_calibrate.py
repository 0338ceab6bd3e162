"""The observer that suits each quantizer, found by trying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from nashquant.quantization.fake_quantize import DynamicFakeQuantize, FakeQuantize, FakeQuantState, set_fake_quantize
from nashquant.quantization.observer import (
    FixedScaleObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    ObserverBase,
    PercentileObserver,
)

from .batches import Batch, Batches, float_twin, gathered, outputs, relative_error, run
from .progress import progress

__all__ = ["auto_calibrate"]

_OBSERVERS: Mapping[str, type[ObserverBase]] = {
    "percentile": PercentileObserver,
    "mse": MSEObserver,
    "kl": KLObserver,
    "min_max": MinMaxObserver,
    "mix": MixObserver,
    "histogram": HistogramObserver,
}
_PERCENTILES = (99.5, 99.9, 99.99, 99.999)
_Range = tuple[Tensor, Tensor]
_Ranges = dict[str, _Range]  # by candidate


def auto_calibrate(
    calib_model: nn.Module,
    batches: Batches,
    num_batches: int = 10,
    batch_process_func: Callable[[Any], Any] | None = None,
    observer_list: Sequence[str] = ("percentile", "mse", "kl", "min_max"),
    percentile_list: Sequence[float] | None = None,
    *,
    show_progress: bool = True,
) -> dict[str, str]:
    """Calibrates a model, each activation with the observer that leaves the model's output nearest to the float one.

    All observers look at the batches in one pass. First the one that is best for all quantizers alike is taken; then,
    quantizer by quantizer in the order they run, each other one is tried, and kept where the error of the output gets
    less. So the result is at least as good on these batches as the best single observer. It takes
    `batches * (2 + observers + quantizers * (observers - 1))` forwards at most. The error is
    `sum((y - y_float)**2) / sum(y_float**2)`, summed over the model's outputs. How the vendor chooses is not public.

    Weights are calibrated as their observers say where they have no scale yet; fixed scales stay. The model is left in
    the VALIDATION state.

    Args:
        calib_model: what `prepare` gave; changed in place.
        batches: a DataLoader, say; the first `num_batches` are kept in memory.
        num_batches: 10 or more; fewer represent less.
        batch_process_func: makes the model's input of a batch: one argument, a tuple of them, or a dict by keyword.
        observer_list: "percentile", "mse", "kl", "min_max", "mix", "histogram".
        percentile_list: what "percentile" tries, in percent; 99.5, 99.9, 99.99 and 99.999 by default.
        show_progress: tell on stderr how far it is.

    Returns:
        The name of each quantizer, with what was chosen for it.

    Raises:
        ValueError: not a prepared model; an unknown observer; no batches. Nothing is changed then.
    """
    candidates = _candidates(observer_list, percentile_list)
    data = gathered(calib_model, batches, num_batches, batch_process_func, "auto_calibrate")
    ranges = _observed(calib_model, data, candidates, show_progress)
    quantizers = {name: calib_model.get_submodule(name) for name in ranges}
    wanted = outputs(float_twin(calib_model), data)

    def error_with(choice: Mapping[str, str]) -> float:
        for name, candidate in choice.items():
            _take(quantizers[name], ranges[name][candidate])
        return relative_error(outputs(calib_model, data), wanted)

    trials = {candidate: dict.fromkeys(ranges, candidate) for candidate in candidates}
    errors = {c: error_with(trials[c]) for c in progress(list(trials), "all alike", show_progress)}
    best = min(errors, key=lambda candidate: errors[candidate])
    chosen, least = trials[best], error_with(trials[best])
    for name in progress(list(ranges), "one by one", show_progress):
        for candidate in _others(ranges[name], chosen[name]):
            error = error_with({name: candidate})
            if error < least:
                chosen[name], least = candidate, error
        _take(quantizers[name], ranges[name][chosen[name]])
    return chosen


def _candidates(observer_list: Sequence[str], percentile_list: Sequence[float] | None) -> dict[str, dict[str, Any]]:
    """Name -> observer class and arguments."""
    unknown = [name for name in observer_list if name not in _OBSERVERS]
    if unknown or not observer_list:
        known = ", ".join(map(repr, _OBSERVERS))
        raise ValueError(f"observer_list is {list(observer_list)!r}, expected some of {known}")
    candidates: dict[str, dict[str, Any]] = {}
    for name in observer_list:
        if name == "percentile":
            for percentile in percentile_list or _PERCENTILES:
                PercentileObserver(percentile)  # a bad one is an error now
                candidates[f"percentile({percentile:g})"] = {"observer": PercentileObserver, "percentile": percentile}
        else:
            candidates[name] = {"observer": _OBSERVERS[name]}
    return candidates


def _observed(
    model: nn.Module, data: Sequence[Batch], candidates: Mapping[str, Mapping[str, Any]], shown: bool
) -> dict[str, _Ranges]:
    """Quantizer -> candidate -> the range it chooses; in the order the quantizers run. Leaves VALIDATION."""
    set_fake_quantize(model.eval(), FakeQuantState.CALIBRATION)
    looking: dict[str, dict[str, ObserverBase]] = {}
    seen: Counter[str] = Counter()
    with ExitStack() as hooks:
        for name, quantizer in model.named_modules():
            if not _is_open(name, quantizer):
                if isinstance(quantizer, FakeQuantize) and quantizer.has_scale:
                    quantizer.disable_observer()  # of rounded weights another scale would undo the rounding
                continue
            quantizer.disable_observer()
            looking[name] = {c: _like(quantizer, arguments) for c, arguments in candidates.items()}

            def look(_: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                x = args[0] if len(args) < 2 or args[1] is None else args[1].function(args[0])
                seen[name] += 1
                for observer in looking[name].values():
                    observer.averaging_constant = 1 / seen[name]  # the moving average is then the mean of all calls
                    observer.observe(x)

            hooks.enter_context(quantizer.register_forward_pre_hook(look))
        for batch in progress(data, "observing", shown):
            run(model, batch)
    ranges = {name: {c: (o.min_val, o.max_val) for c, o in looking[name].items()} for name in seen}
    for name, of_candidates in ranges.items():  # VALIDATION warns of scales that were never set
        _take(model.get_submodule(name), next(iter(of_candidates.values())))
    set_fake_quantize(model.eval(), FakeQuantState.VALIDATION)
    return ranges


def _is_open(name: str, quantizer: nn.Module) -> bool:
    """Whether the scale is one to choose: of an activation, not fixed, not taken from each tensor."""
    return (
        isinstance(quantizer, FakeQuantize)
        and not isinstance(quantizer, DynamicFakeQuantize)
        and not name.endswith("weight_fake_quant")
        and not quantizer.activation_post_process.per_channel
        and not isinstance(quantizer.activation_post_process, FixedScaleObserver)
    )


def _like(quantizer: Any, arguments: Mapping[str, Any]) -> ObserverBase:
    """An observer for the quantizer's grid."""
    rest = {name: value for name, value in arguments.items() if name != "observer"}
    grid = {name: getattr(quantizer, name) for name in ("dtype", "quant_min", "quant_max")}
    made: ObserverBase = arguments["observer"](**grid, **rest).to(quantizer.scale.device)
    made.name = quantizer.name
    return made


def _take(quantizer: Any, chosen: _Range) -> None:
    observer = quantizer.activation_post_process
    observer.set_range(*observer.widened(*chosen))
    quantizer.refresh_scale()


def _others(ranges: _Ranges, but: str) -> list[str]:
    """Candidates that say something else than `but` and than each other."""
    seen, others = [ranges[but]], []
    for candidate, (low, high) in ranges.items():
        if not any((low == a) & (high == b) for a, b in seen):
            seen.append((low, high))
            others.append(candidate)
    return others
