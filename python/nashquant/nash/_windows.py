"""Where the windows of a convolution or pool lie, as ONNX says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ._forms import NotIntegerError
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """One entry for each dimension behind the channels; `padding` before and after."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, node: ir.Node, kernel: Sequence[int]) -> Windows:
        """What the attributes of `node` say.

        Raises:
            NotIntegerError: it pads to keep a size that is not known.
        """
        n = len(kernel)
        stride, dilation = (integers(node, name, (1,) * n) for name in ("strides", "dilations"))
        pads = integers(node, "pads", (0,) * 2 * n)
        padding = tuple(zip(pads[:n], pads[n:], strict=True))
        auto = str(attribute(node, "auto_pad", "NOTSET"))
        if auto == "VALID":
            padding = ((0, 0),) * n
        elif auto != "NOTSET":
            padding = _same(node, kernel, stride, dilation, upper=auto == "SAME_UPPER")
        return cls(tuple(kernel), stride, dilation, padding)

    def with_room(self, sizes: Sequence[int], ceil: bool) -> Windows:
        """With more padding behind, where a last window that starts inside `sizes` or before may lie half outside."""
        if not ceil:
            return self
        padding = []
        for size, kernel, stride, dilation, (before, after) in zip(
            sizes, self.kernel, self.stride, self.dilation, self.padding, strict=True
        ):
            reach = dilation * (kernel - 1) + 1
            room = size + before + after - reach
            count = -(-room // stride) + 1
            if (count - 1) * stride >= size + before:  # it would start in the padding
                count -= 1
            padding.append((before, after + max(0, (count - 1) * stride - room)))
        return Windows(self.kernel, self.stride, self.dilation, tuple(padding))


def integers(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    return tuple(int(each) for each in cast("Sequence[int]", attribute(node, name, default)))


def _same(
    node: ir.Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], upper: bool
) -> tuple[tuple[int, int], ...]:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    sizes = [] if shape is None else list(shape)[2:]
    padding = []
    for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=False):
        if not isinstance(size, int):
            break
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        padding.append((total // 2, total - total // 2) if upper else (total - total // 2, total // 2))
    if len(padding) != len(kernel):
        raise NotIntegerError("it pads to keep a size that is not known before it runs")
    return tuple(padding)
