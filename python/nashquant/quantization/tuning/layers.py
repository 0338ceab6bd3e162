"""The layers with a quantized weight: in which order they run, on what, and what they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from nashquant.nn.qat import Quantized
from nashquant.quantization.fake_quantize import FakeQuantize

from .batches import Batch, run

__all__ = ["channel_axis", "inputs_of", "outputs_of", "require_calibrated", "unquantized", "weighted_layers"]


def require_calibrated(model: nn.Module, who: str) -> None:
    """Raises ValueError where no weight has a scale yet: rounded with a scale of 1, they would be lost."""
    layers = _layers(model)
    if layers and not any(layer.weight_fake_quant.has_scale for layer in layers.values()):
        raise ValueError(
            f"{who} takes a calibrated model, but no weight of this {type(model).__name__} has a scale: run data in "
            "the CALIBRATION state first, or load a checkpoint"
        )


def _layers(model: nn.Module) -> dict[str, Any]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Quantized) and isinstance(getattr(module, "weight_fake_quant", None), FakeQuantize)
    }


def weighted_layers(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """The convs and linears of a prepared model whose weight has a quantizer, by name, in the order they run."""
    order: list[str] = []
    layers = _layers(model)
    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(lambda *_, name=name: order.append(name)))
        run(model, batch)
    return {name: layers[name] for name in dict.fromkeys(order)}


def inputs_of(model: nn.Module, layer: nn.Module, batches: Sequence[Batch]) -> list[tuple[Any, ...]]:
    """What each call of `layer` takes, over all batches."""
    seen: list[tuple[Any, ...]] = []

    def keep(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen.append(tuple(arg.detach() if isinstance(arg, Tensor) else arg for arg in args))

    with layer.register_forward_pre_hook(keep):
        for batch in batches:
            run(model, batch)
    return seen


def outputs_of(model: nn.Module, layer: nn.Module, batches: Sequence[Batch]) -> list[Tensor]:
    """What each call of `layer` gives, before its own output quantizer, over all batches."""
    seen: list[Tensor] = []
    keep: Callable[..., None] = lambda _, __, y: seen.append(y.detach())  # noqa: E731
    with unquantized(getattr(layer, "activation_post_process", None)), layer.register_forward_hook(keep):
        for batch in batches:
            run(model, batch)
    return seen


@contextmanager
def unquantized(*quantizers: Any) -> Iterator[None]:
    """Inside, these quantizers (those that are None aside) give what they get."""
    on = [q for q in quantizers if isinstance(q, FakeQuantize) and bool(q.fake_quant_enabled)]
    for quantizer in on:
        quantizer.disable_fake_quant()
    try:
        yield
    finally:
        for quantizer in on:
            quantizer.enable_fake_quant()


def channel_axis(layer: nn.Module) -> int:
    """The axis of output channels in what `layer` gives, from behind."""
    return -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)  # type: ignore[arg-type]
