"""`dynamic_block` under the vendor's two names for it: the function, and the method of `Tracer`."""

from __future__ import annotations

from nashquant.quantization.prepare import dynamic_block

__all__ = ["Tracer", "dynamic_block"]


class Tracer:
    """Holds `Tracer.dynamic_block(self, "Name")`: the same as `dynamic_block`."""

    dynamic_block = staticmethod(dynamic_block)
