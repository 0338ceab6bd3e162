"""The object that export gives: run it, compare it with the model, save it elsewhere, print it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nashquant.quantization.fake_quantize import FakeQuantState, set_fake_quantize
from nashquant.quantization.hbdk4 import ExportedModel, _write, export

from .small_models import OneQuantizer, QuantizedLinear, ResidualBlock, quantizer


class Pair(nn.Module):
    """Two inputs, one in a dict, a number; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.5)
        self.eval()

    def forward(self, x: Tensor, more: dict[str, Tensor], times: int) -> tuple[Tensor, Tensor]:
        y = self.quant(x) * times
        return y, y + more["shift"]


INPUTS = (torch.tensor([0.6, 1.2]), {"shift": torch.tensor([1.0, 2.0])}, 3)


def pair(path: Path) -> ExportedModel:
    return export(Pair(), INPUTS, path=path)


def test_it_runs_on_other_inputs_laid_out_like_the_example_ones(tmp_path: Path) -> None:
    y, shifted = pair(tmp_path / "m.onnx").run(torch.tensor([1.1, -0.9]), {"shift": torch.zeros(2)}, 3)
    assert y.tolist() == shifted.tolist() == [3.0, -3.0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((INPUTS[0],), "the inputs (x) are not laid out as the example inputs were (x, more.shift)"),
        ((), "the inputs (none) are not laid out as the example inputs were (x, more.shift)"),
        ((INPUTS[0], INPUTS[1], 4), "what was no tensor is a constant of the exported model: 3 was given, not 4"),
        ((2.0, INPUTS[1], 3), "the inputs must be tensors where the example inputs were, not float"),
        ((torch.ones(3), INPUTS[1], 3), "input 'x' is float32[3], but the file takes float32[2]"),
        ((torch.ones(2, 1), INPUTS[1], 3), "input 'x' is float32[2, 1], but the file takes float32[2]"),
        ((torch.ones(2).double(), INPUTS[1], 3), "input 'x' is float64[2], but the file takes float32[2]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: tuple[object, ...], message: str, tmp_path: Path) -> None:
    exported = pair(tmp_path / "m.onnx")
    for call in (lambda: exported.run(*inputs), lambda: exported.verify(inputs)):
        with pytest.raises(ValueError, match=r".") as caught:
            call()
        assert message in str(caught.value)


def test_nan_is_counted(tmp_path: Path) -> None:
    exported = pair(tmp_path / "m.onnx")
    bad = torch.tensor([torch.nan, 1.0])
    for call in (lambda: exported.run(bad, *INPUTS[1:]), lambda: exported.verify((bad, *INPUTS[1:]))):
        with pytest.warns(UserWarning, match="input 'x' holds 1 NaN, for which there is no integer") as told:
            call()
        assert [each.filename for each in told] == [__file__]


def test_a_dict_may_have_its_keys_in_another_order(tmp_path: Path) -> None:
    class OfDict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant = quantizer(0.5)
            self.eval()

        def forward(self, batch: dict[str, list[Tensor]]) -> Tensor:
            return self.quant(batch["a"][0]) - batch["b"][0]

    exported = export(OfDict(), {"a": [torch.ones(2)], "b": [torch.zeros(2)]}, path=tmp_path / "m.onnx")
    (y,) = exported.run({"b": [torch.tensor([1.0, 2.0])], "a": [torch.tensor([3.0, 5.0])]})
    assert y.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"the inputs \(batch\.a\.0, batch\.c\.0\) are not laid out"):
        exported.run({"a": [torch.ones(2)], "c": [torch.ones(2)]})


def test_by_place_is_told_from_by_keyword(tmp_path: Path) -> None:
    inputs = {"more": INPUTS[1], "times": 3}
    exported = export(Pair(), INPUTS[:1], path=tmp_path / "m.onnx", example_kw_inputs=inputs)
    assert len(exported.run(INPUTS[0], **inputs)) == 2
    message = "the inputs (x, more.shift, times) are not laid out as the example inputs were (x, more.shift=)"
    with pytest.raises(ValueError, match=re.escape(message)):
        exported.run(*INPUTS)


def test_several_inputs_in_place_of_one_tuple_are_told(tmp_path: Path) -> None:
    exported = pair(tmp_path / "m.onnx")
    with pytest.raises(TypeError, match=r"per_layer is dict, expected a bool: .* verify\(\(a, b\)\)"):
        exported.verify(*INPUTS[:2])


def test_verify_compares_on_other_data_and_on_the_model_as_it_is_now(tmp_path: Path) -> None:
    model = ResidualBlock().eval()
    exported = export(model, torch.randn(2, 4, 8, 8), path=tmp_path / "m.onnx", dynamic_batch=True)
    agreement = exported.verify(torch.randn(5, 4, 8, 8), per_layer=True)
    assert [place.name for place in agreement.places] == ["quant", "conv_out", "sum_out", "output"]
    assert [place.elements for place in agreement.places] == [5 * 4 * 8 * 8] * 4
    assert agreement.worst[1] <= 1.01
    many = exported.verify(iter([torch.randn(5, 4, 8, 8), torch.randn(2, 4, 8, 8)]), per_layer=True)
    assert [place.elements for place in many.places] == [7 * 4 * 8 * 8] * 4
    with pytest.raises(ValueError, match="holds no batch"):
        exported.verify(iter([]))
    with torch.no_grad():
        model.conv.bias.add_(1.0)  # trained on: the file is old
    later = exported.verify(per_layer=True)
    assert {"conv_out", "output"} <= set(later.beyond)
    assert "quant" not in later.beyond


def test_verify_needs_the_model_in_validation(tmp_path: Path) -> None:
    model = ResidualBlock().eval()
    exported = export(model, torch.randn(1, 4, 8, 8), path=tmp_path / "m.onnx")
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with pytest.raises(RuntimeError, match="observing is 'quant'"):
        exported.verify()


def test_a_shared_batch_may_change(tmp_path: Path) -> None:
    model = nn.Sequential(OneQuantizer(quantizer(0.5)), nn.Flatten()).eval()
    exported = export(model, torch.ones(2, 3, 4), path=tmp_path / "m.onnx", dynamic_batch=True)
    assert "input: float[batch, 3, 4]" in repr(exported)
    (y,) = exported.run(torch.full((7, 3, 4), 0.7))
    assert y.shape == (7, 12)
    assert set(y.flatten().tolist()) == {0.5}


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        (torch.ones(1, 3), {}, "needs inputs with one first axis of two or more in common, but they have x: [1, 3]"),
        (torch.tensor(1.0), {}, "but they have x: []"),
        (torch.ones(2, 3), {"dynamic_shapes": ({0: None},)}, "dynamic_batch and dynamic_shapes can't both be given"),
    ],
)
def test_a_batch_that_cannot_change_is_refused(
    inputs: Tensor, more: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        export(OneQuantizer(quantizer(0.5)), inputs, path=tmp_path / "m.onnx", dynamic_batch=True, **more)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_it_is_saved_elsewhere(tmp_path: Path) -> None:
    exported = pair(tmp_path / "m.onnx")
    (tmp_path / "there").mkdir()
    assert exported.save(tmp_path / "there" / "copy.onnx") == tmp_path / "there" / "copy.onnx"
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["copy.onnx"]
    import onnx

    copy = onnx.load(str(tmp_path / "there" / "copy.onnx"))
    assert copy == exported.model
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        exported.save(tmp_path / "no" / "copy.onnx")


def test_another_current_folder_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported = pair(Path("m.onnx"))
    assert exported.path == tmp_path / "m.onnx"
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert len(exported.run(*INPUTS)) == 2
    assert exported.verify().worst[1] == 0
    assert exported.save("copy.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()


def test_weights_in_a_file_of_their_own_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_write, "LARGEST_IN_ONE_FILE", 100)
    scale = [0.01] * 64
    model = nn.Sequential(
        OneQuantizer(quantizer(0.02)), QuantizedLinear(torch.randn(64, 64), quantizer(scale, ch_axis=0))
    )
    x = torch.randn(2, 64)
    exported = export(model.eval(), x, path=tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()
    assert exported.verify(per_layer=True).worst[1] < 0.1
    before = exported.run(x)[0]
    (tmp_path / "there").mkdir()
    copy = exported.save(tmp_path / "there" / "copy.onnx")
    assert sorted(each.name for each in copy.parent.iterdir()) == ["copy.onnx", "copy.onnx.data"]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(copy), providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), before)


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    made = pair(tmp_path / "m.onnx")
    made.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^there is no file '.*m.onnx'$"):
        made.run(*INPUTS)
