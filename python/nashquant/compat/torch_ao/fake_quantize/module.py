"""The module that observes, chooses a grid, and rounds to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.buffers import set_buffer
from nashquant.compat.torch_ao.functional import fake_quantize_per_channel_affine, fake_quantize_per_tensor_affine
from nashquant.compat.torch_ao.namesakes import join_namesakes
from nashquant.compat.torch_ao.observer import MovingAverageMinMaxObserver
from nashquant.compat.torch_ao.observer.qparams import is_per_channel, is_per_tensor
from nashquant.compat.torch_ao.parity import is_exact
from nashquant.quantization.observer import is_recomputing

from .base import FakeQuantizeBase
from .one_call import observed_in_one_call

__all__ = ["FakeQuantize"]


class FakeQuantize(FakeQuantizeBase):
    """Rounds a tensor to the grid its observer chooses.

    `y = (clamp(round(x / scale) + zero_point, quant_min, quant_max) - zero_point) * scale`

    >>> quantizer = FakeQuantize(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-8, quant_max=7)
    >>> quantizer(torch.tensor([0.6, -7.5]))
    tensor([ 1., -8.])

    Args:
        observer: makes the observer: a class, or what its `with_args` gave.
        quant_min: the least integer; that of the observer, if one of the two is None.
        quant_max: the greatest integer.
        is_dynamic: stands for quantization whose scale is chosen at run time.
        **observer_kwargs: further arguments of the observer.

    Attributes:
        activation_post_process: the observer.
        scale: f32, `[1]` or `[C]`.
        zero_point: int32 (f32 for float zero points), `[1]` or `[C]`.

    Raises:
        AssertionError: a range that is none, or that `dtype` does not have; or a scheme that there is not.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        observer: Callable[..., Any] = MovingAverageMinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_dynamic: bool = False,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__()
        if quant_min is not None and quant_max is not None:
            _check_range(quant_min, quant_max, _dtype_of(observer, observer_kwargs))
            observer_kwargs.update(quant_min=quant_min, quant_max=quant_max)
        self.activation_post_process = observer(**observer_kwargs, is_dynamic=is_dynamic)
        chooser = self.activation_post_process
        self.quant_min, self.quant_max, self.is_dynamic = chooser.quant_min, chooser.quant_max, chooser.is_dynamic
        self.dtype, self.qscheme, self.ch_axis = chooser.dtype, chooser.qscheme, getattr(chooser, "ch_axis", -1)
        points = torch.float if self.qscheme == torch.per_channel_affine_float_qparams else torch.int
        self.register_buffer("scale", torch.tensor([1.0], dtype=torch.float))
        self.register_buffer("zero_point", torch.tensor([0], dtype=points))
        if not (is_per_channel(self.qscheme) or is_per_tensor(self.qscheme)):
            raise AssertionError(
                "Only per channel and per tensor quantization are supported in fake quantize got qscheme: "
                f"{self.qscheme}"
            )
        self.is_per_channel = is_per_channel(self.qscheme)

    def calculate_qparams(self) -> Any:  # type: ignore[override]  # as torch.ao has it
        """What the observer chooses: scale and zero point."""
        return self.activation_post_process.calculate_qparams()

    def forward(self, X: Tensor) -> Tensor:
        """Observes `X` if it shall, then fake-quantizes it if it shall."""
        self.read_switches()
        observes = self._observes and not X.is_meta and not self._was_observed()
        if observes and self._quantizes and type(self) is FakeQuantize:
            y = observed_in_one_call(self, X)
            if y is not None:
                return y
        if observes:
            self.activation_post_process(X.detach())
            self._take(*self.calculate_qparams())
        if not self._quantizes:
            return X
        grid = self.activation_post_process
        if self.is_per_channel:
            return fake_quantize_per_channel_affine(
                X, self.scale, self.zero_point, self.ch_axis, grid.quant_min, grid.quant_max
            )
        return fake_quantize_per_tensor_affine(X, self.scale, self.zero_point, grid.quant_min, grid.quant_max)

    def _was_observed(self) -> bool:
        """Is this what a checkpoint computes once more? torch.ao observes it twice."""
        return is_recomputing() and not is_exact()

    def _take(self, scale: Tensor, zero_point: Tensor) -> None:
        set_buffer(self, "scale", scale)
        set_buffer(self, "zero_point", zero_point)

    def extra_repr(self) -> str:
        """All one wants to know when a number looks wrong."""
        grid = self.activation_post_process
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, "
            f"quant_min={grid.quant_min}, quant_max={grid.quant_max}, dtype={self.dtype}, qscheme={self.qscheme}, "
            f"ch_axis={self.ch_axis}, scale={self.scale}, zero_point={self.zero_point}"
        )

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in ("scale", "zero_point"):
            loaded = state_dict.get(prefix + name)
            if not isinstance(loaded, Tensor):
                if strict:
                    missing_keys.append(prefix + name)
                continue
            if loaded.dim() == 0 and not is_exact():  # as it would be after the next tensor
                loaded = state_dict[prefix + name] = loaded.reshape(1)
            getattr(self, name).resize_(loaded.shape)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _dtype_of(observer: Callable[..., Any], arguments: dict[str, Any]) -> torch.dtype:
    dtype: torch.dtype = arguments.get("dtype", torch.quint8)
    if hasattr(observer, "p"):  # the dtype that `with_args` was given
        dtype = getattr(observer.p, "keywords", {}).get("dtype", dtype)
    return dtype


def _check_range(quant_min: int, quant_max: int, dtype: torch.dtype) -> None:
    if quant_min > quant_max:
        raise AssertionError("quant_min must be less than or equal to quant_max")
    if torch.iinfo(dtype).min > quant_min:
        raise AssertionError("quant_min out of bound")
    if quant_max > torch.iinfo(dtype).max:
        raise AssertionError("quant_max out of bound")


join_namesakes(FakeQuantize)
