"""A whole ResNet-18 in integers, against ONNX Runtime on the file it was converted from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from benches.harness import Rival, Row
from benches.nets import ResNet18
from torch import Tensor

from nashquant import March, nash, set_march
from nashquant.quantization import prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.qconfig_template import (
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_calibration_qconfig_setter,
)

SETTERS = {"int8": default_calibration_qconfig_setter, "int16": calibration_8bit_weight_16bit_act_qconfig_setter}
FLOORS = {"int8": 1 / 1.5, "int16": 1.0}
BY_DEFAULT, INT8_KEPT = "ONNX Runtime", "ONNX Runtime, int8 kept"
NOTES = {
    BY_DEFAULT: "all optimizations; it makes uint8 of int8",
    INT8_KEPT: "with session.qdqisint8allowed=1, which is right on CPUs without VNNI too",
}


def session(path: Path, threads: int, keep_int8: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its waiting threads leave us the core
    options.add_session_config_entry("session.qdqisint8allowed", str(int(keep_int8)))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def near(ours: Tensor, theirs: Tensor) -> None:
    """Asserts what two ways of rounding leave equal: no score is off by more than 5 % of the largest."""
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 0.05


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", SETTERS)
def test_resnet_18(race: Callable[[Row], None], threads: int, kind: str, tmp_path: Path) -> None:
    set_march(March.NASH_E)
    x = torch.randn(1, 3, 224, 224)
    model = prepare(ResNet18().eval(), x, SETTERS[kind], save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(model.eval(), state)
        with torch.no_grad():
            model(x)
    exported = export(model, x, path=tmp_path / "resnet.onnx", verify=False)
    integer = nash.convert(exported)
    assert integer.report.coverage == 1.0
    sessions = {name: session(exported.path, threads, name == INT8_KEPT) for name in NOTES}
    feeds: dict[str, Any] = {"x": x.numpy()}
    rivals = [
        Rival(name, lambda each=each: torch.from_numpy(each.run(None, feeds)[0]), near, NOTES[name])  # type: ignore[misc]
        for name, each in sessions.items()
    ]
    race(
        Row(
            work="integer model",
            what=f"ResNet-18, {kind}",
            size="224x224",
            elements=x.numel(),
            ours=lambda: integer(x),
            rivals=tuple(rivals),
            floors=dict.fromkeys(NOTES, FLOORS[kind]),
        )
    )
