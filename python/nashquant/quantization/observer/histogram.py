"""A histogram that outlives calibration, so that scales can be chosen anew without data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from nashquant.dtype import QuantDType

from .accumulating import AccumulatingObserver
from .arguments import check_unit_interval
from .base import ObserverBase

__all__ = ["HistogramObserver"]

_DEFAULTS: dict[str, dict[str, Any]] = {"percentile": {"percentile": 0.999999}, "mse": {"stride": 1}}


class HistogramObserver(AccumulatingObserver):
    """Keeps a histogram of all magnitudes and chooses the range from it, by a percentile or by the least
    squared error.

    - `method="percentile"`: the least bin edge with that fraction of all values below it. `{"percentile":
      0.999999}`, a fraction here; 1.0 is the maximum.
    - `method="mse"`: of `max_abs * i / 100`, i = 1 ... 100, the threshold with the least squared error,
      values being spread evenly over their bins (`MagnitudeHistogram.squared_error`). `{"stride": 1}`.

    The vendor documents neither the number of bins nor the method used unless reset; 2048 bins and "mse" are
    our choice: 2048 is what torch's own histogram observer has, and MSE is the vendor's advice for accuracy.

    Args:
        bins: the number of bins.
        method: "mse" or "percentile".
        method_kwargs: the method's parameters, as above.
        **common: the arguments of `ObserverBase`.

    Raises:
        ValueError: an unknown method, parameter or value.
    """

    def __init__(
        self,
        bins: int = 2048,
        method: str = "mse",
        method_kwargs: Mapping[str, Any] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(bins, **common)
        self.method, self.method_kwargs = _checked_method(method, method_kwargs)

    def choose_threshold(self) -> Tensor:
        """By the method."""
        if self.method == "percentile":
            return self.histogram.percentile(self.method_kwargs["percentile"])
        stride = self.method_kwargs["stride"]
        return self.histogram.least_error_threshold(self.max_abs_seen, self.quant_min, self.quant_max, stride)

    @staticmethod
    def reset_scale(
        model: nn.Module,
        method: str = "percentile",
        method_kwargs: Mapping[str, Any] | None = None,
        dtype: QuantDType | None = None,
        prefix: str | tuple[str, ...] = "",
    ) -> list[str]:
        """Chooses the scales of a calibrated model anew, from the histograms kept, and returns the names of
        its quantizers.

        Args:
            model: calibrated with HistogramObserver, in this process: histograms are not saved in a
                state_dict.
            method: "percentile" or "mse". Later batches are reduced by it too.
            method_kwargs: its parameters; `{"percentile": 0.999999}` by default.
            dtype: only quantizers of this type; all if None.
            prefix: only quantizers whose name in `model` starts with it (or with one of them).

        Raises:
            TypeError: `dtype` is not a dtype.
            ValueError: an unknown method or parameter, or no quantizer to reset. Nothing is changed then.
        """
        if dtype is not None and not isinstance(dtype, QuantDType):
            raise TypeError(f"dtype is {dtype!r}, expected qint8, qint16 (from nashquant.dtype) or None for all")
        method, method_kwargs = _checked_method(method, method_kwargs)
        chosen = {
            name: quantizer
            for name, quantizer in model.named_modules()
            if isinstance(quantizer, _Quantizer)
            and isinstance(quantizer.activation_post_process, HistogramObserver)
            and quantizer.activation_post_process.batches_seen > 0
            and dtype in (None, quantizer.activation_post_process.dtype)
            and name.startswith(prefix)
        }
        if not chosen:
            wanted = f" of {dtype}" * (dtype is not None) + f" under {prefix!r}" * bool(prefix)
            raise ValueError(f"no quantizer{wanted} has a HistogramObserver that observed something; calibrate first")
        for quantizer in chosen.values():
            observer = quantizer.activation_post_process
            assert isinstance(observer, HistogramObserver)
            observer.method, observer.method_kwargs = method, dict(method_kwargs)
            observer.set_range(*observer.widened(*observer.range_of_seen()))
            quantizer.refresh_scale()
        return list(chosen)

    def extra_repr(self) -> str:
        """The method and the range."""
        parameters = ", ".join(f"{name}={value}" for name, value in self.method_kwargs.items())
        return f"method={self.method}({parameters}), {self.range_repr()}"


@runtime_checkable
class _Quantizer(Protocol):
    activation_post_process: ObserverBase

    def refresh_scale(self) -> None: ...


def _checked_method(method: str, method_kwargs: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    if method not in _DEFAULTS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(map(repr, _DEFAULTS))}")
    given = dict(method_kwargs or {})
    unknown = given.keys() - _DEFAULTS[method].keys()
    if unknown:
        raise ValueError(
            f"method {method!r} does not take {', '.join(map(repr, sorted(unknown)))}; "
            f"it takes {', '.join(_DEFAULTS[method])}"
        )
    parameters = {**_DEFAULTS[method], **given}
    if method == "percentile":
        check_unit_interval("percentile", parameters["percentile"])
    elif not (isinstance(parameters["stride"], int) and 1 <= parameters["stride"] <= 100):
        raise ValueError(f"stride is {parameters['stride']!r}, expected an integer from 1 to 100")
    return method, parameters
