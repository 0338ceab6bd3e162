"""The grids of a model as an encodings file, which AIMET and the tools behind it read beside a float ONNX model."""

from __future__ import annotations

from typing import Any

from .grids import Grid
from .plain import Plain

__all__ = ["encodings"]

VERSIONS = ("2.0.0", "1.0.0")


def encodings(plain: Plain, version: str = "2.0.0") -> dict[str, Any]:
    """What is to be written as JSON beside `plain.model`: a grid for each of its tensors.

    Written from AIMET's public specification, "Encoding Format Specification" (qualcomm/aimet,
    Docs/techniques/encoding_spec.rst). 2.0.0 names its fields after QuantizeLinear: `y_scale`, `y_zero_point` (left out
    where it is 0), `axis`, `output_dtype`. In 1.0.0 activations and parameters are apart, and the offset is counted
    from the least integer: the least value of a tensor is `offset · scale`.

    Raises:
        ValueError: a version that is not known.
    """
    if version not in VERSIONS:
        raise ValueError(f"encodings of version {version!r} are not known, only {' and '.join(VERSIONS)}")
    both = {**plain.activations, **plain.weights}
    if version == "2.0.0":
        return {"version": version, "encodings": [_as_2_0_0(name, grid) for name, grid in both.items()]}
    return {
        "version": version,
        "activation_encodings": [_as_1_0_0(name, grid) for name, grid in plain.activations.items()],
        "param_encodings": [_as_1_0_0(name, grid) for name, grid in plain.weights.items()],
        "quantizer_args": {
            "activation_bitwidth": max(map(_bits, plain.activations.values()), default=8),
            "dtype": "int",
            "is_symmetric": not any(grid.zero_point.any() for grid in plain.weights.values()),
            "param_bitwidth": max(map(_bits, plain.weights.values()), default=8),
            "per_channel_quantization": any(grid.axis is not None for grid in plain.weights.values()),
            "quant_scheme": "post_training_tf",
        },
        "excluded_layers": [],
    }


def _as_2_0_0(name: str, grid: Grid) -> dict[str, Any]:
    entry = {"name": name, "output_dtype": grid.dtype, "y_scale": grid.scale.tolist()}
    if grid.zero_point.any():
        entry["y_zero_point"] = grid.zero_point.tolist()
    if grid.axis is not None:
        entry["axis"] = grid.axis
    return entry


def _as_1_0_0(name: str, grid: Grid) -> dict[str, Any]:
    qmin = 0 if grid.dtype.startswith("u") else -(2 ** (_bits(grid) - 1))
    return {
        "name": name,
        "enc_type": "PER_TENSOR" if grid.axis is None else "PER_CHANNEL",
        "dtype": "INT",
        "bw": _bits(grid),
        "is_sym": qmin < 0 and not grid.zero_point.any(),
        "scale": grid.scale.reshape(-1).tolist(),
        "offset": (qmin - grid.zero_point).reshape(-1).tolist(),
    }


def _bits(grid: Grid) -> int:
    return int(grid.dtype.removeprefix("u").removeprefix("int"))
