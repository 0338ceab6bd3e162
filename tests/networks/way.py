"""The way of every network: prepared, calibrated, trained, validated, exported; and what must hold at each step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nashquant import set_march
from nashquant.dtype import qint8, qint16
from nashquant.quantization import (
    QATMode,
    QconfigSetter,
    QconfigSetterBase,
    check_result_of,
    get_qat_mode,
    get_qconfig,
    prepare,
    set_fake_quantize,
    set_qat_mode,
)
from nashquant.quantization.hbdk4 import ExportedModel, export
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.qconfig_setter import ModuleNameTemplate
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter, default_qat_qconfig_setter

from .network import Network, closeness, difference, tensors

__all__ = ["LEAST_DB", "calibrated", "exports", "goes_all_the_way", "in_float", "prepared", "trains"]

LEAST_DB = {8: 15.0, 16: 40.0}


def setter(network: Network, bits: int, qat: bool) -> QconfigSetterBase:
    """int8 as the older setters ask for it; int16, weights too, as a template does."""
    if bits == 8 and not network.shares:
        return default_qat_qconfig_setter if qat else default_calibration_qconfig_setter
    reference = get_qconfig(MinMaxObserver, fix_scale=True) if qat else get_qconfig()
    dtype = {8: qint8, 16: qint16}[bits]
    return QconfigSetter(reference, [ModuleNameTemplate({"": {"output": dtype, "weight": dtype}})])


def prepared(
    network: Network, model: nn.Module, bits: int, qat: bool = False, other: QconfigSetterBase | None = None
) -> Any:
    """The quantized twin of a float model; nothing in it is unknown."""
    set_march("nash-m")
    first, *more = network.ways(2)
    model.train(network.trains_otherwise or model.training)
    twin = prepare(model, first, other or setter(network, bits, qat), save_dir=None, more_example_inputs=more)
    assert check_result_of(twin).float_ops == ()
    return twin


def calibrated(
    network: Network,
    model: nn.Module,
    bits: int,
    other: QconfigSetterBase | None = None,
    batches: Sequence[int] = (128, 1, 5),
) -> Any:
    """The twin after calibration on batches of several sizes, in VALIDATION."""
    twin = prepared(network, model, bits, other=other).eval()
    set_fake_quantize(twin, "calibration")
    with torch.no_grad():
        for batch in batches:
            for inputs in network.ways(batch):
                twin(*inputs)
    set_fake_quantize(twin.eval(), "validation")
    return twin


def in_float(network: Network, mode: QATMode = QATMode.FuseBN, train: bool = False) -> float:
    """The largest relative difference between the float model and its twin with all quantizers off; 0: all bits."""
    model = network.trained().train(train)
    before = get_qat_mode()
    set_qat_mode(mode)
    try:
        twin = prepared(network, model, 8)
    finally:
        set_qat_mode(before)
    set_fake_quantize(twin, "float")
    for each in (model, twin):
        each.train(train)
    largest = 0.0
    for inputs in network.ways(3):
        torch.manual_seed(1)
        expected = model(*inputs)
        torch.manual_seed(1)
        largest = max(largest, difference(twin(*inputs), expected))
    return largest


def goes_all_the_way(network: Network, bits: int) -> Any:
    """Calibration, QAT, validation; close to float before and after the training. Gives the twin."""
    model = network.trained()
    calibration = calibrated(network, model, bits)
    model.eval()
    for inputs in network.ways(3):
        with torch.no_grad():
            near = closeness(calibration(*inputs), model(*inputs))
        assert near >= LEAST_DB[bits], f"{near:.1f} dB after calibration"
    twin = prepared(network, model, bits, qat=True)
    twin.load_state_dict(calibration.state_dict())
    trains(network, twin)
    set_fake_quantize(twin.eval(), "validation")
    inputs = network.inputs(2)
    with torch.no_grad():
        quantized = twin(*inputs)
        set_fake_quantize(twin, "float")
        near = closeness(quantized, twin(*inputs))
    assert near >= LEAST_DB[bits], f"{near:.1f} dB after QAT"
    set_fake_quantize(twin, "validation")
    return twin


def trains(network: Network, twin: nn.Module, batches: Sequence[int] = (4, 2, 3)) -> None:
    """A few steps of QAT: each loss is a number, each weight moves."""
    set_fake_quantize(twin.train(), "qat")
    before = {name: weight.detach().clone() for name, weight in twin.named_parameters()}
    optimizer = torch.optim.Adam(twin.parameters(), 1e-4)
    for batch in batches:
        for inputs in network.ways(batch):
            loss = sum(((y - y.detach().roll(1, 0) * 0.9) ** 2).mean() for y in tensors(twin(*inputs)))
            assert torch.isfinite(torch.as_tensor(loss))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
    resting = [name for name, weight in twin.named_parameters() if torch.equal(weight, before[name])]
    assert resting == []


def exports(network: Network, bits: int, folder: Path) -> ExportedModel:
    """The exported file takes any batch, and each layer in it gives what that of the twin gives, up to rounding; where
    it does not give the same, f32 is known to be the reason.

    A value between two steps may fall to the other side, and what comes of it in a deep int8 network is as large as the
    quantization's own noise; so the outputs are held only against that.
    """
    twin, inputs = goes_all_the_way(network, bits), network.exported or network.inputs
    exported = export(twin, inputs(2), path=folder / "network.onnx", dynamic_batch=True, verify=False)
    more = inputs(5)
    agreement = exported.verify(more, per_layer=True)
    outputs = {value.name for value in exported.model.graph.output}
    assert set(agreement.beyond) <= outputs, str(agreement)
    assert agreement.unexplained == 0, str(agreement)
    with torch.no_grad():
        near = closeness(exported.run(*more), twin(*more))
    assert near >= LEAST_DB[bits], f"{near:.1f} dB between ONNX Runtime and the twin"
    return exported
