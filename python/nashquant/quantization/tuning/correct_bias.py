"""Bias correction: the mean that quantization shifted is put back into the bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nashquant.quantization.fake_quantize import FakeQuantState, set_fake_quantize

from .batches import Batches, float_twin, gathered
from .layers import channel_axis, outputs_of, require_calibrated, weighted_layers
from .progress import progress

__all__ = ["correct_bias"]


def correct_bias(
    calib_model: nn.Module,
    batches: Batches,
    num_batches: int = 10,
    batch_process_func: Callable[[Any], Any] | None = None,
    *,
    show_progress: bool = True,
) -> dict[str, Tensor]:
    """Moves the biases of a calibrated model so that each channel of a layer has the mean it has in the float model.

    `bias -= mean(y) - mean(y_float)`, per output channel over all batches, before the layer's own output quantizer;
    layer by layer in the order they run, each with those before it corrected. Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", ICCV 2019, appendix D (the empirical variant). A layer without a
    bias is left: a new one would be no part of its other checkpoints.

    Args:
        calib_model: calibrated; its biases are changed in place, and it is left in the VALIDATION state.
        batches: as in `auto_calibrate`.
        num_batches: likewise.
        batch_process_func: likewise.
        show_progress: tell on stderr how far it is.

    Returns:
        The shift that was taken out of each layer, f32 `[channels]`.

    Raises:
        ValueError: not a prepared and calibrated model, or no batches. Nothing is changed then.
    """
    data = gathered(calib_model, batches, num_batches, batch_process_func, "correct_bias")
    require_calibrated(calib_model, "correct_bias")
    set_fake_quantize(calib_model.eval(), FakeQuantState.VALIDATION)
    reference = float_twin(calib_model)
    layers = {name: each for name, each in weighted_layers(calib_model, data[0]).items() if each.bias is not None}
    shifts = {}
    for name in progress(list(layers), "correcting biases", show_progress):
        layer = layers[name]
        axis = channel_axis(layer)
        means = [
            _mean_of_channels(outputs_of(model, model.get_submodule(name), data), axis)
            for model in (calib_model, reference)
        ]
        shifts[name] = (means[0] - means[1]).float()
        with torch.no_grad():
            layer.bias.sub_(shifts[name].to(layer.bias.dtype))
    return shifts


def _mean_of_channels(outputs: Sequence[Tensor], axis: int) -> Tensor:
    """In f64, `[channels]`."""
    rows = torch.cat([y.double().movedim(axis, 0).flatten(1) for y in outputs], dim=1)
    return rows.mean(1)
