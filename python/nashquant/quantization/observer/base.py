"""What all observers share: the range they keep, how it moves, and what they refuse to look at."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from nashquant import ops
from nashquant.dtype import QuantDType, qint8

from .arguments import check_grid, check_qscheme, check_unit_interval, reject_unknown
from .exact_buffers import ExactBuffers
from .looking import refuse_transforms
from .scale import power_of_two, range_from_scale, scale_from_range
from .synchronize import join_ranges

__all__ = ["ObserverBase"]


class ObserverBase(ExactBuffers, ABC):
    """Looks at tensors and keeps, in `min_val` and `max_val`, the range the quantizer shall cover.

    A subclass says in `choose_range` which range one batch asks for. The range kept follows it by
    `m <- m + averaging_constant * (chosen - m)`; the first batch starts it, 0 freezes it once it is there, 1
    follows the current batch. Because the range *chosen* is what is kept, `scale_from_range(min_val, max_val,
    ...)` is the scale whatever the observer: a checkpoint made with one observer continues smoothly under
    another.

    Args:
        averaging_constant: how far the range moves towards the current batch; 0 ... 1.
        ch_axis: the channel axis if `qscheme` is per channel.
        dtype: the integer type of the grid.
        qscheme: `torch.per_tensor_symmetric` or `torch.per_channel_symmetric`.
        quant_min: the lower end of the grid, if not that of `dtype`.
        quant_max: the upper end of the grid, if not that of `dtype`.
        is_sync_quantize: look at what all processes of `torch.distributed` see, as one process would that is
            shown all of it at once. All must then observe equally often; a share may be empty.
        factory_kwargs: `{"device": ...}` for the buffers.
        pow_quantization: round the scale up to a power of two, 2**k. `min_val` and `max_val` are then the whole range
            that scale covers.
        channel_len: how many channels there are, if `qscheme` is per channel. `FakeQuantize` gives it.

    Raises:
        TypeError: an unknown argument (the message lists the known ones), or a dtype that is not a
            `QuantDType`.
        ValueError: an argument out of its range.
    """

    min_val: Tensor
    max_val: Tensor
    _average: Tensor

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Rejects unknown arguments, for every subclass at once."""
        reject_unknown(cls, kwargs)
        return super().__new__(cls)

    def __init__(
        self,
        averaging_constant: float = 0.01,
        ch_axis: int = -1,
        dtype: QuantDType = qint8,
        qscheme: torch.qscheme = torch.per_tensor_symmetric,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_sync_quantize: bool = False,
        factory_kwargs: Mapping[str, Any] | None = None,
        pow_quantization: bool = False,
        *,
        channel_len: int = 1,
    ) -> None:
        super().__init__()
        self.averaging_constant = check_unit_interval("averaging_constant", averaging_constant)
        self.quant_min, self.quant_max = check_grid(dtype, quant_min, quant_max)
        self.per_channel = check_qscheme(qscheme, ch_axis)
        if channel_len < 1:
            raise ValueError(f"channel_len is {channel_len}, expected at least 1")
        self.ch_axis, self.dtype, self.qscheme = ch_axis, dtype, qscheme
        self.is_sync_quantize = is_sync_quantize
        self.channel_len = channel_len if self.per_channel else 1
        self.name = ""
        shape = (self.channel_len,) if self.per_channel else ()
        device = dict(factory_kwargs or {}).get("device")
        self.register_buffer("min_val", torch.full(shape, torch.inf, dtype=torch.float32, device=device))
        self.register_buffer("max_val", torch.full(shape, -torch.inf, dtype=torch.float32, device=device))
        self._has_range = False
        self.pow_quantization = pow_quantization
        if pow_quantization:  # the average itself, because the range is rounded up from it
            self.register_buffer("_average", torch.stack([self.min_val, self.max_val]), persistent=False)

    @abstractmethod
    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range `x` asks for, given its least and greatest value: two f32 tensors like `min_val`.

        With `is_sync_quantize`, `x` is this process's share, which may be empty; `low` and `high`, and what is
        returned, are of all of them.
        """

    @property
    def has_range(self) -> bool:
        """Whether something was observed, loaded or set."""
        if not self._has_range and not self.min_val.is_meta:
            # Not only `observe` fills the buffers: averaged models and DDP copy them in place.
            self._has_range = bool((self.min_val <= self.max_val).all())
        return self._has_range

    @property
    def where(self) -> str:
        """The quantizer this belongs to, for messages."""
        return repr(self.name) if self.name else f"an unnamed {type(self).__name__}"

    def forward(self, x: Tensor) -> Tensor:
        """Observes `x` and gives it back."""
        self.observe(x)
        return x

    def observe(self, x: Tensor) -> bool:
        """Moves the range by what `x` shows, and tells whether it may have moved. An empty `x`, or one without
        values (on "meta"), shows nothing.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `x` has NaN or infinite values, here or in a process that observes along, or a wrong
                number of channels. The range stays as it was.
            RuntimeError: `torch.func` is at work.
        """
        if not x.is_floating_point():
            raise TypeError(f"x is {x.dtype}, expected floating point (while observing {self.where})")
        if self.averaging_constant == 0 and self._is_started():
            return False
        if x.is_meta:
            return False
        refuse_transforms(self.where)
        x = x.detach()  # with it, nothing below is recorded by autograd
        self._check_channels(x)
        if x.numel() == 0 and not self.is_sync_quantize:
            return False
        low, high = self._finite_range(x)
        if x.numel() == 0 and not bool((low <= high).all()):
            return False  # nobody has anything to show
        self.set_range(*self.follow(*self.choose_range(x, low, high)))
        return True

    def follow(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Where the range goes from here, when a batch asks for `low ... high`."""
        c = self.averaging_constant
        if self.pow_quantization:
            return self._follow_in_powers(c, torch.stack([low, high]))
        if c == 1:  # m + 1 * (low - m) is not low in floating point
            return low, high
        new_min = self.min_val + c * (low - self.min_val)
        new_max = self.max_val + c * (high - self.max_val)
        if torch.compiler.is_compiling():  # no look at the tensors; on inf, the value of a fresh buffer, start
            started = self.min_val <= self.max_val
            return torch.where(started, new_min, low), torch.where(started, new_max, high)
        return (new_min, new_max) if self.has_range else (low, high)

    def _follow_in_powers(self, c: float, chosen: Tensor) -> tuple[Tensor, Tensor]:
        range_kept = torch.stack([self.min_val, self.max_val])
        stale = ~(torch.stack(self.widened(*self._average)) == range_kept).all()  # something else was loaded or set
        average = torch.where(stale, range_kept, self._average)
        started = average[0] <= average[1]
        moved = chosen if c == 1 else torch.where(started, average + c * (chosen - average), chosen)
        self._average.copy_(moved)
        return self.widened(*moved)

    def widened(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The range as it is; with `pow_quantization`, the whole range whose scale is the next power of two."""
        if not self.pow_quantization:
            return low, high
        scale = scale_from_range(low, high, self.quant_min, self.quant_max)
        return range_from_scale(power_of_two(scale), self.quant_min, self.quant_max)

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Makes `low ... high` the range, in place."""
        self.min_val.copy_(low)
        self.max_val.copy_(high)
        if not self._has_range and not torch.compiler.is_compiling():
            self._has_range = True

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale (f32) and zero point (int32, always 0) of the range, `[channel_len]` each."""
        scale = scale_from_range(self.min_val, self.max_val, self.quant_min, self.quant_max).reshape(-1)
        return scale, torch.zeros_like(scale, dtype=torch.int32)

    def _is_started(self) -> bool:
        return self._has_range if torch.compiler.is_compiling() else self.has_range

    def _check_channels(self, x: Tensor) -> None:
        if not self.per_channel:
            return
        if not -x.dim() <= self.ch_axis < x.dim():
            raise ValueError(f"x has {x.dim()} axes, so there is no axis {self.ch_axis} (while observing {self.where})")
        channels = x.shape[self.ch_axis]
        if channels != self.channel_len:
            raise ValueError(
                f"x has {channels} channels on axis {self.ch_axis} but channel_len is {self.channel_len} "
                f"(while observing {self.where})"
            )

    def _finite_range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the greatest value, of all processes if they observe together."""
        low, high = self._ends(x)
        if torch.compiler.is_compiling():
            finite = (high - low).isfinite().all()
            torch._assert_async(finite, f"x has NaN or infinite values (while observing {self.where})")
            bad = 0
        else:
            bad = 0 if math.isfinite((high - low).sum().item()) else int((~x.float().isfinite()).sum())
        if self.is_sync_quantize:  # what raises here has to raise everywhere: the others would wait for ever
            low, high = join_ranges(*((low.fill_(-torch.inf), high.fill_(torch.inf)) if bad else (low, high)))
        if bad:
            raise ValueError(
                f"x has {bad} NaN or infinite values among {x.numel()}, expected none (while observing {self.where})"
            )
        if self.is_sync_quantize and not torch.compiler.is_compiling() and bool((low == -torch.inf).any()):
            raise ValueError(f"x of another process has NaN or infinite values (while observing {self.where})")
        return low, high

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.numel() == 0:
            return torch.full_like(self.min_val, torch.inf), torch.full_like(self.max_val, -torch.inf)
        if self.per_channel:
            return ops.min_max_per_channel(x, self.ch_axis % x.dim())
        return ops.min_max_per_tensor(x)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._has_range = False
        self._has_range = self.has_range

    def extra_repr(self) -> str:
        """The averaging constant and the range."""
        return f"averaging_constant={self.averaging_constant:g}, {self.range_repr()}"

    def range_repr(self) -> str:
        """`min_val` and `max_val`, the outermost ones per channel; and whether the scale is a power of two."""
        power = "pow_quantization=True, " if self.pow_quantization else ""
        if not self.has_range:
            return f"{power}nothing observed"
        if self.min_val.is_meta:
            return f"{power}on meta"
        low, high = float(self.min_val.min()), float(self.max_val.max())
        return f"{power}min_val={low:.7g}, max_val={high:.7g}" + (
            f" over {self.channel_len} channels" if self.per_channel else ""
        )
