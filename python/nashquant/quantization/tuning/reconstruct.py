"""AdaRound: weights are rounded up or down so that each layer's output stays, not each weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nashquant.quantization.fake_quantize import FakeQuantState, set_fake_quantize

from .batches import Batch, Batches, float_twin, gathered
from .layers import channel_axis, inputs_of, outputs_of, require_calibrated, unquantized, weighted_layers
from .progress import progress

__all__ = ["Reconstruction", "weight_reconstruction"]

_CONFIG: Mapping[str, Any] = {
    "num_batches": 10,
    "num_steps": 100,
    "exclude_prefix": [],
    "warm_up": 0.2,
    "weight": 0.01,
    "b_range": [20, 2],
}
_LEARNING_RATE = 1e-2
_LOW, _HIGH = -0.1, 1.1  # a sigmoid stretched to these and clipped to 0 ... 1 reaches its ends


@dataclass(frozen=True)
class Reconstruction:
    """The mean squared error of a layer's output, of all batches.

    Attributes:
        nearest: with each weight rounded to the nearest integer.
        learned: as it was left.
    """

    nearest: float
    learned: float


def weight_reconstruction(
    calib_model: nn.Module,
    batches: Batches,
    batch_process_func: Callable[[Any], Any] | None = None,
    custom_config_dict: Mapping[str, Any] | None = None,
    *,
    show_progress: bool = True,
) -> dict[str, Reconstruction]:
    """Rounds the weights of a calibrated model anew, layer by layer, for the output that is nearest to the float one.

    AdaRound: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020. For each weight
    of a conv or linear `clamp(floor(w / scale) + h)` is learned, where h goes from the fraction that was to 0 or 1:
    `loss = mean over samples of sum over channels of (y - y_float)**2 + weight * sum(1 - |2 h - 1|**b)`, by Adam with
    a learning rate of 0.01. `y` is computed from what the layer gets in the quantized model, with the layers before it
    already rounded; `y_float` in the float one. Where that is not better on these batches than rounding to the
    nearest, the nearest stays.

    The weights left are on their grid: VALIDATION and export keep them. A QAT that follows moves them, and its
    observers their scales; set the weight's quantizers to VALIDATION to keep those.

    Args:
        calib_model: calibrated; changed in place, and left in the VALIDATION state.
        batches: as in `auto_calibrate`.
        batch_process_func: likewise.
        custom_config_dict: over `{"num_batches": 10, "num_steps": 100, "exclude_prefix": [], "warm_up": 0.2,
            "weight": 0.01, "b_range": [20, 2]}`: batches kept in memory; steps on each of them; layers whose name
            starts with one of these are left; the share of the steps before h is pushed to 0 or 1; how much it is; b
            at the begin and at the end of that.
        show_progress: tell on stderr how far it is.

    Returns:
        The errors of each layer, before and after.

    Raises:
        ValueError: not a prepared and calibrated model, no batches, an unknown or bad entry of the config. Nothing is
            changed then.
    """
    config = _checked({**_CONFIG, **(custom_config_dict or {})})
    data = gathered(calib_model, batches, config["num_batches"], batch_process_func, "weight_reconstruction")
    require_calibrated(calib_model, "weight_reconstruction")
    set_fake_quantize(calib_model.eval(), FakeQuantState.VALIDATION)
    reference = float_twin(calib_model)
    layers = weighted_layers(calib_model, data[0])
    chosen = [name for name in layers if not name.startswith(tuple(config["exclude_prefix"]))]
    result = {}
    for name in progress(chosen, "rounding weights", show_progress):
        wanted = outputs_of(reference, reference.get_submodule(name), data)
        result[name] = _reconstruct(calib_model, layers[name], data, wanted, config)
    return result


def _checked(config: dict[str, Any]) -> dict[str, Any]:
    if unknown := config.keys() - _CONFIG.keys():
        raise ValueError(f"the config has {', '.join(map(repr, sorted(unknown)))}; it takes {', '.join(_CONFIG)}")
    for name in ("num_batches", "num_steps"):
        if isinstance(config[name], bool) or not isinstance(config[name], int) or config[name] < 1:
            raise ValueError(f"{name} is {config[name]!r}, expected a whole number of at least 1")
    if not (_is_number(config["warm_up"]) and 0 <= config["warm_up"] <= 1):
        raise ValueError(f"warm_up is {config['warm_up']!r}, expected a share from 0 to 1")
    if not (_is_number(config["weight"]) and config["weight"] >= 0):
        raise ValueError(f"weight is {config['weight']!r}, expected a number of at least 0")
    ends = config["b_range"]
    if not (isinstance(ends, (tuple, list)) and len(ends) == 2 and all(_is_number(b) and b > 0 for b in ends)):
        raise ValueError(f"b_range is {ends!r}, expected two numbers above 0: the first b and the last")
    if isinstance(config["exclude_prefix"], str):
        raise ValueError(f"exclude_prefix is {config['exclude_prefix']!r}, expected a list of names")
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _reconstruct(
    model: nn.Module, layer: Any, data: Sequence[Batch], wanted: Sequence[Tensor], config: Mapping[str, Any]
) -> Reconstruction:
    inputs = inputs_of(model, layer, data)
    rounding, to_nearest = _Rounding(layer), layer.quantized_weight().detach()
    parts = (layer.weight_fake_quant, layer.activation_post_process)

    def output(weight: Tensor, args: tuple[Any, ...]) -> Tensor:
        y: Tensor = functional_call(layer, {"weight": weight}, args)
        return y

    def error(weight: Tensor) -> float:
        with torch.no_grad():
            errors = [(output(weight, args) - y).square().mean() for args, y in zip(inputs, wanted, strict=True)]
        return torch.stack(errors).mean().item()

    with unquantized(*parts):
        nearest = error(to_nearest)
        rounding.learn(output, inputs, wanted, config)
        learned = error(rounding.hard())
    with torch.no_grad():
        layer.weight.copy_(rounding.hard() if learned < nearest else to_nearest)
    return Reconstruction(nearest, min(nearest, learned))


class _Rounding:
    """Which way each weight is rounded: `v`, of which a stretched and clipped sigmoid is h."""

    def __init__(self, layer: Any) -> None:
        weight, quantizer = layer.weight.detach(), layer.weight_fake_quant
        self._ends = quantizer.quant_min, quantizer.quant_max
        self._channels = channel_axis(layer)
        per_channel = quantizer.activation_post_process.per_channel
        shape = [-1 if per_channel and i == quantizer.ch_axis % weight.dim() else 1 for i in range(weight.dim())]
        self._scale = quantizer.scale.detach().reshape(shape)
        steps = weight / self._scale
        self._floor = steps.floor()
        fraction = steps - self._floor
        self.v = torch.logit((fraction - _LOW) / (_HIGH - _LOW)).requires_grad_()

    def hard(self) -> Tensor:
        """As learned."""
        return self._on_grid((self.v.detach() >= 0).to(self._floor.dtype))

    def _on_grid(self, up: Tensor) -> Tensor:
        y: Tensor = (self._floor + up).clamp(*self._ends) * self._scale
        return y

    def learn(
        self,
        output: Callable[[Tensor, tuple[Any, ...]], Tensor],
        inputs: Sequence[tuple[Any, ...]],
        wanted: Sequence[Tensor],
        config: Mapping[str, Any],
    ) -> None:
        """Moves `v`."""
        optimizer = torch.optim.Adam([self.v], lr=_LEARNING_RATE)
        total = config["num_steps"] * len(inputs)
        free = int(config["warm_up"] * total)
        first, last = config["b_range"]
        for step in range(total):
            args, y = inputs[step % len(inputs)], wanted[step % len(inputs)]
            h = (torch.sigmoid(self.v) * (_HIGH - _LOW) + _LOW).clamp(0, 1)
            loss = (output(self._on_grid(h), args) - y).square().sum(self._channels).mean()
            if step >= free:
                b = last + (first - last) * (1 - (step - free) / max(1, total - free))
                loss = loss + config["weight"] * (1 - (2 * h - 1).abs() ** b).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
