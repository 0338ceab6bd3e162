"""The module that rounds a tensor to the grid of an integer type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from nashquant import ops
from nashquant.dtype import qint4, qint8, qint16
from nashquant.quantization.observer import (
    ExactBuffers,
    FixedScaleObserver,
    MinMaxObserver,
    ObserverBase,
    check_scale,
    check_zero_point,
    is_recomputing,
    range_from_scale,
    scale_from_range,
)

from .spec import FakeQuantizeSpec
from .switch import GlobalFakeQuantSwitch
from .warning import Notices, eval_ended_calibration, fixed_scale_kept, scale_never_set, state_was_loaded

__all__ = ["FakeQuantize"]


class FakeQuantize(ExactBuffers):
    """Rounds a tensor to the grid of an integer type, and lets its observer choose the grid.

    `y = clamp(round(x / scale), quant_min, quant_max) * scale`; numerics.md has the bits. Gradients pass
    where nothing was clamped. `observer_enabled` and `fake_quant_enabled` are independent; observing needs
    training mode too.

    >>> from nashquant.dtype import qint8
    >>> quantizer = FakeQuantize(observer=FixedScaleObserver, dtype=qint8, scale=0.5)
    >>> quantizer(torch.tensor([0.2, 0.3, 100.0]))
    tensor([ 0.0000,  0.5000, 63.5000])

    Args:
        observer: the class that chooses the range.
        channel_len: the number of channels, if `qscheme` is per channel; else there is one scale whatever is
            given.
        **observer_kwargs: the arguments of `observer`.

    Attributes:
        dtype, qscheme, ch_axis, quant_min, quant_max: as the observer was told; `ch_axis` is -1 per tensor.
        scale: f32 `[channel_len]`, 1 until set.
        zero_point: int32 `[channel_len]`, always 0.
        name: where this quantizer sits in the model, for messages; `prepare` sets it.

    Raises:
        TypeError: `observer` is none of ours, an argument unknown to it, or an unknown dtype.
        ValueError: an argument out of its range.
    """

    derived_keys: frozenset[str] = frozenset()
    """Names in a state_dict that may be missing, because the others imply them."""

    fake_quant_enabled: Tensor
    observer_enabled: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(
        self, observer: type[ObserverBase] = MinMaxObserver, channel_len: int = 1, **observer_kwargs: Any
    ) -> None:
        super().__init__()
        if not (isinstance(observer, type) and issubclass(observer, ObserverBase)):
            raise TypeError(f"observer is {observer!r}, expected a class from nashquant.quantization.observer")
        chooser = observer(channel_len=channel_len, **observer_kwargs)
        device = chooser.min_val.device
        self.dtype, self.qscheme, self.ch_axis = chooser.dtype, chooser.qscheme, chooser.ch_axis
        self.quant_min, self.quant_max = chooser.quant_min, chooser.quant_max
        self._per_channel = chooser.per_channel
        # The flags are read from the Python bools: a look at a tensor costs 5 us and breaks torch.export.
        self._observes, self._quantizes = True, True
        self.register_buffer("fake_quant_enabled", torch.ones(1, dtype=torch.uint8, device=device))
        self.register_buffer("observer_enabled", torch.ones(1, dtype=torch.uint8, device=device))
        self.register_buffer("scale", torch.ones(chooser.channel_len, dtype=torch.float32, device=device))
        self.register_buffer("zero_point", torch.zeros(chooser.channel_len, dtype=torch.int32, device=device))
        self.activation_post_process = chooser
        self._notices = Notices()
        self._has_scale = False
        if isinstance(chooser, FixedScaleObserver):
            self.refresh_scale()

    @classmethod
    def with_args(cls, observer: type[ObserverBase] = MinMaxObserver, **kwargs: Any) -> FakeQuantizeSpec:
        """How to make one: a frozen value for a QConfig, `spec(channel_len=4)` makes the quantizer.

        >>> from nashquant.dtype import qint16
        >>> FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=0.0625)
        FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=0.0625)

        Raises:
            TypeError, ValueError: as the class itself, at once.
        """
        return FakeQuantizeSpec.of(cls, observer, kwargs)

    # What it is

    @property
    def name(self) -> str:
        """Where this quantizer sits in the model."""
        return self.activation_post_process.name

    @name.setter
    def name(self, name: str) -> None:
        self.activation_post_process.name = name

    @property
    def is_off(self) -> bool:
        """Whether it neither observes nor quantizes: values pass as they are."""
        return not (self._observes or self._quantizes)

    @property
    def has_scale(self) -> bool:
        """Whether the scale was fixed, observed, loaded or set at least once."""
        if not self._has_scale and not self.scale.is_meta:
            # The buffers are the truth: averaged models and DDP copy them in place.
            self._has_scale = self.activation_post_process.has_range or bool((self.scale != 1).any())
        return self._has_scale

    # What it does

    def forward(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        """Observes `x` if it shall and is in training mode, then fake-quantizes it if it shall.

        What a checkpoint computes once more, in backward, was observed before and is not observed again.

        With a `clamp` (`ops.RELU`, `ops.RELU6`), `x` is what it makes of `x`: in the same pass, where that is possible.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `x` shows NaN or infinity to the observer, or has a wrong number of channels; a bad
                scale.
        """
        quantizes = self._quantizes and GlobalFakeQuantSwitch.enabled
        if self._observes and not is_recomputing():
            if self.training:
                if quantizes and (y := self._in_one_call(x, clamp)) is not None:
                    return y
                # The clamp stays with the quantizer, as in a recomputation: both then save the same tensors.
                self._observe(x if clamp is None else clamp.function(x.detach()))
            elif not self._quantizes and not is_compiling():
                self._notices.say_once("eval", eval_ended_calibration(self.where))
        if quantizes:
            return self._quantize(x, clamp)
        return x if clamp is None else clamp.function(x)

    def requantize(self, x: Tensor) -> Tensor:
        """Fake-quantizes `x`, if it shall, and never observes it: for ops that keep their input's scale."""
        return self._quantize(x) if self._quantizes and GlobalFakeQuantSwitch.enabled else x

    def _observe(self, x: Tensor) -> None:
        if self.activation_post_process.observe(x):
            self.refresh_scale()

    # Below, parts are taken from where nn.Module keeps them: each access as an attribute costs what the kernel does.

    def _in_one_call(self, x: Tensor, clamp: ops.Clamp | None) -> Tensor | None:
        """As observing and then quantizing; None, and nothing has changed, where it takes more calls."""
        observer = self._modules["activation_post_process"]
        if type(observer) is not MinMaxObserver or observer.is_sync_quantize or observer.averaging_constant == 0:
            return None
        if observer.pow_quantization:
            return None
        if (clamp is not None and observer.per_channel) or is_compiling():
            return None
        range_kept: Any = observer._buffers
        scale: Any = self._buffers["scale"]
        state = range_kept["min_val"], range_kept["max_val"], scale
        grid = observer.averaging_constant, self.quant_min, self.quant_max
        try:
            if observer.per_channel:
                y = ops.fake_quantize_observed_per_channel(x, *state, self.ch_axis, *grid)
            else:
                y = ops.fake_quantize_observed_per_tensor(x, *state, *grid, clamp=clamp)
        except (TypeError, ValueError, IndexError):
            return None  # what is wrong, and with which quantizer, is said step by step
        self._has_scale = self._has_scale or y is not None
        return y

    def _quantize(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        scale: Any = self._buffers["scale"]
        if is_compiling():
            return self._on_grid(x, scale, clamp)
        if not self._has_scale and not self.has_scale and not scale.is_meta:
            self._notices.say_once("unset", scale_never_set(self.where))
        # `item()` every time: as fast as looking whether a cached number is still right, and never wrong.
        # Elsewhere it would wait for the device.
        if scale.is_cpu and not self._per_channel:
            scale = scale.item()
        try:
            return self._on_grid(x, scale, clamp)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (while quantizing {self.where})") from error

    def _on_grid(self, x: Tensor, scale: Any, clamp: ops.Clamp | None) -> Tensor:
        if self._per_channel:
            x = x if clamp is None else clamp.function(x)
            axis, zero_point = self.ch_axis % x.dim(), self._buffers["zero_point"]
            assert zero_point is not None
            return ops.fake_quantize_per_channel(x, scale, zero_point, axis, self.quant_min, self.quant_max)
        return ops.fake_quantize_per_tensor(x, scale, 0, self.quant_min, self.quant_max, clamp=clamp)

    @property
    def where(self) -> str:
        """The name in quotes, or a word for having none."""
        return repr(self.name) if self.name else "an unnamed FakeQuantize"

    # What it is told

    def enable_observer(self, enabled: bool = True) -> None:
        """Lets the observer look at what comes, in training mode."""
        self._observes = bool(enabled)
        self.observer_enabled.fill_(int(enabled))

    def disable_observer(self) -> None:
        """Keeps the scale as it is."""
        self.enable_observer(False)

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Rounds what comes to the grid."""
        self._quantizes = bool(enabled)
        self.fake_quant_enabled.fill_(int(enabled))

    def disable_fake_quant(self) -> None:
        """Lets everything pass as it is."""
        self.enable_fake_quant(False)

    def share_notices(self, notices: Notices) -> None:
        """Warns through `notices` from now on, together with the other quantizers of the model."""
        self._notices = notices

    def set_qparams(self, scale: float | Sequence[float] | Tensor, zero_point: int | Tensor = 0) -> None:
        """Sets the scale, and the observer's range with it, so that an observer goes on from here.

        A fixed scale is replaced by this one.

        Raises:
            ValueError: a bad scale, as many as there are no channels, or a zero point other than 0. Nothing
                changes.
        """
        value = check_scale(scale)
        check_zero_point(zero_point)
        if value.numel() not in (1, self.scale.numel()):
            raise ValueError(f"scale has {value.numel()} values, expected {self.scale.numel()} ({self.where})")
        observer = self.activation_post_process
        self.scale.copy_(value)
        if isinstance(observer, FixedScaleObserver):
            observer.set_scale(self.scale)
        else:
            low, high = range_from_scale(self.scale, self.quant_min, self.quant_max)
            observer.set_range(low.reshape(observer.min_val.shape), high.reshape(observer.max_val.shape))

    def refresh_scale(self) -> None:
        """Takes the scale of the observer's range."""
        scale, _ = self.activation_post_process.calculate_qparams()
        self.scale.copy_(scale)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        rest = (local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        key = prefix + "scale"
        where = self.name or prefix.rstrip(".") or "this quantizer"
        loaded = state_dict.get(key)
        if isinstance(loaded, Tensor):
            problem = _problem_of(loaded, state_dict.get(prefix + "zero_point"), self.scale.numel())
            if problem:
                other = "; the checkpoint is of another model?" if loaded.numel() != self.scale.numel() else ""
                error_msgs.append(f"{problem} (while loading {where!r}){other}")
                return
            state_dict = self._of_own_dtype(state_dict, prefix, where)
            if isinstance(self.activation_post_process, FixedScaleObserver):
                if not torch.equal(loaded.reshape(-1).to(self.scale), self.scale):
                    self._notices.say_once("fixed", fixed_scale_kept(where, shortened(loaded), shortened(self.scale)))
                state_dict = {**state_dict, key: self.scale.clone()}
        was = self._observes, self._quantizes
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._observes = bool(self.observer_enabled.item())
        self._quantizes = bool(self.fake_quant_enabled.item())
        if self._notices.state and was != (self._observes, self._quantizes):
            self._notices.say_once("state", state_was_loaded(where, self._notices.state))
        self._has_scale = False  # found out again when asked: the observer's buffers are loaded after these

    def loading_problem(self, scale: Any, zero_point: Any) -> str:
        """Why this quantizer would refuse these values of a state_dict; empty if it wouldn't."""
        return _problem_of(scale, zero_point, self.scale.numel()) if isinstance(scale, Tensor) else ""

    def _of_own_dtype(self, state_dict: Mapping[str, Any], prefix: str, where: str) -> Mapping[str, Any]:
        """The state with the scale its range has on this grid, if its scale is that of another dtype's grid."""
        scale = state_dict[prefix + "scale"]
        low, high = (state_dict.get(f"{prefix}activation_post_process.{end}_val") for end in ("min", "max"))
        if (
            not isinstance(low, Tensor)
            or not isinstance(high, Tensor)
            or not low.numel() == high.numel() == scale.numel()
        ):
            return state_dict
        low, high = low.float().reshape(-1), high.float().reshape(-1)
        if not (low.isfinite() & high.isfinite()).all():
            return state_dict
        scale = scale.float().reshape(-1)
        ours = scale_from_range(low, high, self.quant_min, self.quant_max)
        if torch.allclose(ours, scale, rtol=1e-3, atol=0):  # of zeros, every dtype has the same
            return state_dict
        for dtype in (qint4, qint8, qint16):
            theirs = scale_from_range(low, high, dtype.qmin, dtype.qmax)
            if dtype.qmin == self.quant_min or not torch.allclose(theirs, scale, rtol=1e-3, atol=0):
                continue
            self._notices.say_once(
                "dtype",
                f"the checkpoint was made with {dtype} where {where!r} is {self.dtype}: its range is taken over, its "
                "scale is not; other quantizers may be so too",
            )
            return {**state_dict, prefix + "scale": ours}
        return state_dict

    def extra_repr(self) -> str:
        """All one wants to know when a number looks wrong."""
        unset = "" if self.has_scale else " (never set)"
        return (
            f"fake_quant_enabled={self._quantizes}, observer_enabled={self._observes}, "
            f"quant_min={self.quant_min}, quant_max={self.quant_max}, dtype={self.dtype}, "
            f"qscheme={self.qscheme}, ch_axis={self.ch_axis}, scale={shortened(self.scale)}{unset}, "
            "zero_point=0"
        )


def _problem_of(scale: Tensor, zero_point: Any, channel_len: int) -> str:
    if scale.numel() != channel_len:
        return f"scale has {scale.numel()} values, expected {channel_len}"
    try:
        check_scale(scale)
        check_zero_point(0 if zero_point is None else zero_point)
    except ValueError as error:
        return str(error)
    return ""


def shortened(scale: Tensor) -> str:
    """One number, or the ends of many."""
    if scale.is_meta:
        return "on meta"
    values = [f"{value:.7g}" for value in scale.reshape(-1).tolist()]
    if len(values) == 1:
        return values[0]
    if len(values) <= 4:
        return f"[{', '.join(values)}]"
    return f"[{values[0]}, {values[1]}, ..., {values[-1]}] ({len(values)} channels)"
