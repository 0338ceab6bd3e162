"""The integers a quantizer rounds to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nashquant import ops  # noqa: F401  (importing it registers the operators)


@dataclass(frozen=True, eq=False)
class Grid:
    """The integers a call rounds to, and what they mean.

    Attributes:
        scale: f32; 0-d, or one for each channel of `axis`.
        zero_point: int64, shaped as `scale`.
        axis: None per tensor.
        qmin: the least integer.
        qmax: the greatest.
    """

    scale: Tensor
    zero_point: Tensor
    axis: int | None
    qmin: int
    qmax: int

    @property
    def dtype(self) -> str:
        """ "int8", "int16", ..."""
        return f"int{(self.qmax - self.qmin).bit_length()}"

    def along(self, values: Tensor, dims: int) -> Tensor:
        """`values`, one for each channel, shaped to meet a tensor of `dims` dimensions."""
        if self.axis is None:
            return values
        shape = [1] * dims
        shape[self.axis] = -1
        return values.reshape(shape)

    def integers(self, y: Tensor) -> Tensor:
        """The integers whose dequantization is exactly `y`."""
        # y is a whole number of steps, so the division is off by far less than the half that would matter.
        steps = (y.double() / self.along(self.scale, y.dim()).double()).round().long()
        return steps + self.along(self.zero_point, y.dim())

    def fake_quantize(self, x: Tensor) -> Tensor:
        """`x` rounded as the prepared model does it: multiplied by the reciprocal of the scale."""
        if self.axis is None:
            arguments = (self.scale.item(), int(self.zero_point), self.qmin, self.qmax)
            y: Tensor = torch.ops.nashquant.fake_quantize_per_tensor(x, *arguments)
        else:
            zero_points = self.zero_point.to(torch.int32)
            y = torch.ops.nashquant.fake_quantize_per_channel(
                x, self.scale, zero_points, self.axis, self.qmin, self.qmax
            )
        return y
