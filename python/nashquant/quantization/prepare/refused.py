"""What runs between the stubs and can't be quantized as it is written: an error, before anything is made."""

from __future__ import annotations

__all__ = ["CheckpointedCallError", "RefusedCallError", "computed_weight"]


class RefusedCallError(NotImplementedError):
    """A call that can't be sent to a quantizer as it is written."""


class CheckpointedCallError(RefusedCallError):
    """A call would be recomputed where it could no longer be redirected to its quantizer."""


def computed_weight(path: str) -> RefusedCallError:
    """A conv or linear whose weight is no parameter."""
    return RefusedCallError(
        f"the weight of {path!r} is computed by a hook (torch.nn.utils.weight_norm, spectral_norm or prune), so that "
        "there is no parameter to quantize: make it one before prepare (remove_weight_norm, remove_spectral_norm, "
        "prune.remove), or use torch.nn.utils.parametrizations"
    )
