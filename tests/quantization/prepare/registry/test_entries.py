"""Each entry of the op registry, in a small model: recorded, quantized, trained; and float where it should be."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.op_kind import OpKind
from nashquant.quantization import check_result_of, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.prepare.capture import capture
from nashquant.quantization.prepare.registry import ENTRIES, OpEntry
from nashquant.quantization.setter import TemplateQconfigSetter

from .examples import CALLS, ONLY_MODULES, STUBS, Example, example_of, module_example_of

SETTERS = {
    dtype: TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver, out_dtype=dtype)) for dtype in (qint8, qint16)
}
each_call = pytest.mark.parametrize("call", CALLS)


def prepared(example: Example, dtype: QuantDType = qint8) -> tuple[nn.Module, Any]:
    model = example.model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an op that is not known
        return model, prepare(model, example.inputs(), SETTERS[dtype], save_dir=None)


def calibrated(example: Example, dtype: QuantDType = qint8) -> tuple[nn.Module, Any]:
    model, made = prepared(example, dtype)
    set_fake_quantize(made.eval(), "calibration")
    with torch.no_grad():
        made(*example.inputs())
    set_fake_quantize(made.eval(), "validation")
    return model, made


def name_of(made: nn.Module, entry: OpEntry) -> str:
    """The module that holds the op's quantizer."""
    return "m" if hasattr(made, "m") else f"_generated_{entry.name}_0"


def floats(outputs: Any) -> list[Tensor]:
    return [y for y in outputs if isinstance(y, Tensor) and y.is_floating_point()]


def test_no_entry_is_without_an_example() -> None:
    assert not [entry.name for entry in ENTRIES if entry.name not in ONLY_MODULES and example_of(entry) is None]
    modules = [cls for entry in ENTRIES if entry.name not in STUBS for cls in entry.modules]
    assert not [cls.__name__ for cls in modules if module_example_of(cls) is None]


@each_call
def test_it_is_recorded_and_known(call: str) -> None:
    entry, example = CALLS[call]
    if entry.name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    nodes = capture(example.model(), [example.inputs()], {}).nodes
    assert [node.label for node in nodes if node.entry is None] == []
    names = {node.entry.name for node in nodes if node.entry is not None}
    if entry.kind in (OpKind.COMPARE, OpKind.CONSTANT) or call == "embedding":
        assert entry.name not in names  # nothing of it is quantized
    elif entry.kind is OpKind.SPELLED:
        assert {"matmul", "linear"} & names
    else:
        assert entry.name in names


@each_call
@pytest.mark.parametrize("dtype", [qint8, qint16], ids=str)
def test_its_output_lies_on_its_grid(call: str, dtype: QuantDType) -> None:
    entry, example = CALLS[call]
    model, made = calibrated(example, dtype)
    with torch.no_grad():
        got, expected = made(*example.inputs()), model(*example.inputs())
    if entry.kind in (OpKind.SPELLED, OpKind.CONSTANT, OpKind.EMBEDDING):
        return
    holder = made.get_submodule(name_of(made, entry)) if entry.makes_grid else made.quant
    quantizer = holder.activation_post_process
    for y in floats(got):
        steps = y.double() / quantizer.scale.double()
        if y.dtype in (torch.float32, torch.float64):  # half precision has no room for it
            torch.testing.assert_close(steps, steps.round(), atol=1e-2, rtol=0)
        assert steps.min() > quantizer.quant_min - 0.01
        assert steps.max() < quantizer.quant_max + 0.01
    assert [type(y) for y in got] == [type(y) for y in expected]


@each_call
def test_the_float_state_is_the_float_call(call: str) -> None:
    entry, example = CALLS[call]
    model, made = prepared(example)
    set_fake_quantize(made.eval(), "float")
    with torch.no_grad():
        got, expected = made(*example.inputs()), model(*example.inputs())
    exactly = 1e-6 if entry.kind is OpKind.SPELLED else 0.0
    torch.testing.assert_close(got, expected, atol=exactly, rtol=exactly, equal_nan=True)


@each_call
def test_it_trains(call: str) -> None:
    _, example = CALLS[call]
    model, made = calibrated(example)
    set_fake_quantize(made.train(), "qat")
    try:
        expected = gradients(model.train(), example)
    except (RuntimeError, NotImplementedError) as error:
        with pytest.raises(type(error)):
            gradients(made, example)
        return
    for ours, theirs in zip(gradients(made, example), expected, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or ours.isfinite().all()


def gradients(model: nn.Module, example: Example) -> list[Tensor | None]:
    inputs = [x.requires_grad_() for x in example.inputs()]
    losses = [y.float().sum() for y in floats(model(*inputs)) if y.requires_grad]
    if losses:
        torch.stack(losses).sum().backward()
    return [x.grad for x in inputs]


@each_call
def test_the_report_has_a_row_for_what_has_a_grid(call: str) -> None:
    entry, example = CALLS[call]
    _, made = prepared(example)
    result = check_result_of(made)
    assert result.float_ops == ()
    if entry.makes_grid and entry.kind is not OpKind.EMBEDDING:
        assert name_of(made, entry) in [row.name.partition("[")[0] for row in result.layers]
