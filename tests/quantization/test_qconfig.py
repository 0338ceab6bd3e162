from __future__ import annotations

import pytest
import torch

from nashquant.dtype import qint8, qint16
from nashquant.quantization import FakeQuantize, QConfig, get_qconfig
from nashquant.quantization.observer import FixedScaleObserver, KLObserver, MinMaxObserver, MSEObserver
from nashquant.quantization.qconfig import HistogramObserver


def test_get_qconfig_follows_the_documented_defaults() -> None:
    qconfig = get_qconfig()
    assert qconfig.output is not None
    assert qconfig.weight is not None
    assert qconfig.input is not None
    assert (qconfig.output.observer, qconfig.output.dtype, qconfig.weight.dtype) == (HistogramObserver, qint8, qint8)
    assert qconfig.weight.observer is MinMaxObserver
    assert qconfig.weight.kwargs["qscheme"] is torch.per_channel_symmetric
    assert qconfig.weight.kwargs["ch_axis"] == 0
    assert qconfig.input.dtype is qint8


def test_fix_scale_freezes_activations_and_lets_weights_follow() -> None:
    qconfig = get_qconfig(observer=MinMaxObserver, weight_dtype=qint16, out_dtype=qint16, fix_scale=True)
    assert qconfig.output is not None
    assert qconfig.weight is not None
    assert qconfig.output.kwargs["averaging_constant"] == 0.0
    assert qconfig.weight.kwargs["averaging_constant"] == 1.0


def test_output_and_activation_are_two_names_for_one_thing() -> None:
    spec = FakeQuantize.with_args(observer=MSEObserver, dtype=qint16)
    assert QConfig(activation=spec) == QConfig(output=spec)
    assert QConfig(activation=spec).output is spec
    with pytest.raises(ValueError, match="two names for one thing"):
        QConfig(activation=spec, output=FakeQuantize.with_args(dtype=qint8))


@pytest.mark.parametrize("part", ["input", "output", "activation"])
def test_an_activation_is_never_per_channel(part: str) -> None:
    spec = FakeQuantize.with_args(qscheme=torch.per_channel_symmetric, ch_axis=1)
    with pytest.raises(ValueError, match=f"QConfig's {part} is per channel, but the chip has one scale for a whole"):
        QConfig(**{part: spec})
    assert QConfig(weight=spec).weight is spec


def test_a_qconfig_is_a_value() -> None:
    def make() -> QConfig:
        return QConfig(output=FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=0.0625))

    assert make() == make()
    assert len({make(), make()}) == 1
    assert "scale=0.0625" in repr(make())


def test_wrong_parts_are_refused() -> None:
    with pytest.raises(TypeError, match=r"QConfig's weight takes FakeQuantize\.with_args"):
        QConfig(weight=qint8)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not 'KLObserver'"):
        get_qconfig(observer=KLObserver)
    with pytest.raises(TypeError, match="out_dtype takes qint8"):
        get_qconfig(out_dtype=torch.int8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale"):
        FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=-1.0)
