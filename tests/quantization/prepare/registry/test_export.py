"""Every entry of the op registry as ONNX: the calls of a kind in one model, compared in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant.op_kind import OpKind
from nashquant.quantization import get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.setter import TemplateQconfigSetter

from .examples import CALLS, Example

SETTER = TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver))
pytestmark = pytest.mark.slow
NOT_COMPARED = {"equal", "bfloat16"}  # gives no tensor; NumPy has no such type


class Together(nn.Module):
    """Calls side by side, each with inputs of its own."""

    def __init__(self, examples: dict[str, Example]) -> None:
        super().__init__()
        self.calls = nn.ModuleDict({_key(name): example.model() for name, example in examples.items()})

    def forward(self, *inputs: Tensor) -> list[Any]:
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return [y for call, (x, y) in zip(self.calls.values(), pairs, strict=True) for y in call(x, y)]


def _key(name: str) -> str:
    return f"of_{name}".replace(" ", "_")  # not `to`, which modules have


def exported(examples: dict[str, Example], path: Path) -> Any:
    inputs = tuple(x for example in examples.values() for x in example.inputs())
    made = prepare(Together(examples).eval(), inputs, SETTER, save_dir=None)
    set_fake_quantize(made.eval(), "calibration")
    with torch.no_grad():
        made(*inputs)
    set_fake_quantize(made.eval(), "validation")
    return export(made, inputs, path=path, verify=True)


@pytest.mark.filterwarnings("ignore:exporting .* quantizers whose scale was never set")  # of inputs no call looks at
@pytest.mark.parametrize("kind", [kind for kind in OpKind if kind not in (OpKind.QUANT, OpKind.DEQUANT)], ids=str)
def test_onnx_runtime_computes_what_the_model_does(kind: OpKind, tmp_path: Path) -> None:
    calls = {
        name: example
        for name, (entry, example) in CALLS.items()
        if entry.kind is kind and not entry.no_onnx and entry.name not in NOT_COMPARED
    }
    agreement = exported(calls, tmp_path / "m.onnx").agreement
    assert agreement.beyond == ()
    # Each call has left its mark: the quantizers of its inputs, and what it made of them.
    assert {name.split(".")[1] for name in agreement.steps if name.startswith("calls.")} == {
        _key(name) for name in calls
    }


@pytest.mark.parametrize("name", [name for name, (entry, _) in CALLS.items() if entry.no_onnx])
def test_what_has_no_onnx_form_is_refused_in_plain_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"has no ONNX form|could not follow"):
        exported({name: CALLS[name][1]}, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
