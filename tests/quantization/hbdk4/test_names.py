"""What inputs, outputs, nodes and files are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from nashquant.quantization.hbdk4 import ExportedModel, export

from .small_models import OneQuantizer, ResidualBlock, nodes, quantizer, run


class Nested(nn.Module):
    """Tensors, numbers and None, in tuples and dicts, on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.5)
        self.eval()

    def forward(self, image: Tensor, pair: Any, times: int, *, mask: Tensor | None = None) -> Any:
        y = self.quant(image) * times
        if mask is not None:
            y = y * mask
        return {"boxes": [y, pair[1]["depth"] + 1], "nothing": None, "count": 3}, y


def faces(exported: ExportedModel) -> tuple[list[str], list[str]]:
    graph = exported.model.graph
    return [each.name for each in graph.input], [each.name for each in graph.output]


INPUTS = (torch.tensor([0.6, 1.2]), (1, {"depth": torch.tensor([2.0])}), 2)


def test_nested_tensors_are_called_after_where_they_are(tmp_path: Path) -> None:
    mask = torch.tensor([1.0, 0.0])
    exported = export(Nested(), INPUTS, path=tmp_path / "m.onnx", example_kw_inputs={"mask": mask})
    assert faces(exported) == (
        ["image", "pair.1.depth", "mask"],
        ["output.0.boxes.0", "output.0.boxes.1", "output.1"],
    )
    # One value, given twice by the model, is given twice by the file; numbers are constants in it.
    y, depth, again = run(exported, INPUTS[0], INPUTS[1][1]["depth"], mask)
    assert (y.tolist(), depth.tolist(), again.tolist()) == ([1.0, 0.0], [3.0], [1.0, 0.0])


@dataclass
class Found:
    near: Tensor
    more: list[Any]


def test_dataclasses_are_opened_by_their_fields(tmp_path: Path) -> None:
    class Finding(OneQuantizer):
        def forward(self, x: Tensor) -> Any:
            y = self.quant(x)
            return {"found": Found(y, [Found(y * 2, []), 7])}

    x = torch.tensor([0.6, 1.2])
    exported = export(Finding(quantizer(0.5)), x, path=tmp_path / "m.onnx")
    assert faces(exported)[1] == ["output.found.near", "output.found.more.0.near"]
    assert torch.equal(exported.run(x)[1], torch.tensor([1.0, 2.0]))


def test_without_native_pytree_they_are_numbered(tmp_path: Path) -> None:
    exported = export(Nested(), INPUTS, path=tmp_path / "m.onnx", native_pytree=False, verify=False)
    assert faces(exported) == (["input_0", "input_1"], ["output_0", "output_1", "output_2"])


def test_given_names_and_texts_are_taken(tmp_path: Path) -> None:
    # "output" and "x": what torch, or we, would have called something else.
    exported = export(
        OneQuantizer(quantizer(0.5)),
        torch.ones(2),
        "net",
        "output",
        ["x"],
        "an image",
        ["its steps"],
        path=tmp_path / "m",
    )
    assert faces(exported) == (["output"], ["x"])
    graph = exported.model.graph
    assert (graph.input[0].doc_string, graph.output[0].doc_string) == ("an image", "its steps")
    onnx.checker.check_model(str(tmp_path / "m"), full_check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_names": ["a"]}, "input_names has 1 entries, but there are 2 tensors: ['image', 'pair.1.depth']"),
        ({"output_descs": "boxes"}, "output_descs has 1 entries, but there are 3 tensors"),
        ({"input_names": ["a", "a"]}, "input_names must be unique and not empty, but are ['a', 'a']"),
        ({"output_names": ["a", "", "b"]}, "output_names must be unique and not empty"),
        ({"input_names": ["a", "b"], "output_names": ["b", "c", "d"]}, "both have ['b']"),
        ({"dynamic_shapes": {"pair": [None]}}, "dynamic_shapes has no entry for 'pair.1.depth'"),
    ],
)
def test_names_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        export(Nested(), INPUTS, path=tmp_path / "m.onnx", **arguments)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_names_are_strings(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="input_names takes strings, not 1"):
        export(OneQuantizer(quantizer(0.5)), torch.ones(2), input_names=[1], path=tmp_path / "m.onnx")  # type: ignore[list-item]


class Passing(nn.Module):
    """Gives its input back, and one output twice."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.5)
        self.eval()

    def forward(self, x: Tensor, *more: Tensor, unused: Tensor | None = None) -> tuple[Tensor, ...]:
        y = self.quant(x)
        return x, y, y, more[0]


def test_an_input_may_be_an_output_and_one_value_two(tmp_path: Path) -> None:
    x = torch.tensor([0.6])
    exported = export(Passing(), (x, x), path=tmp_path / "m.onnx")
    assert faces(exported) == (["x", "more.0"], ["output.0", "output.1", "output.2", "output.3"])
    # The example inputs were one tensor; they are two inputs all the same.
    assert [y.item() for y in run(exported, x, x + 1)] == pytest.approx([0.6, 0.5, 0.5, 1.6])


def test_nodes_carry_their_modules_and_no_path_of_this_machine(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Identity(), ResidualBlock())
    exported = export(model.eval(), torch.randn(1, 4, 4, 4), path=tmp_path / "m.onnx")
    (conv,) = nodes(exported, "Conv")
    assert conv.name == "1/Conv"
    assert conv.input[2] == "1.conv.bias"
    assert [each.name for each in nodes(exported, "QuantizeLinear")] == [
        "1.quant/QuantizeLinear",
        "1.conv_out/QuantizeLinear",
        "1.sum_out/QuantizeLinear",
    ]
    notes = {each.key: each.value for each in nodes(exported, "QuantizeLinear")[0].metadata_props}
    assert notes == {"nashquant.module": "1.quant", "nashquant.quantizer": "1.quant"}
    written = exported.path.read_bytes()
    assert str(Path(__file__).parent).encode() not in written
    assert b"site-packages" not in written


def test_the_file_is_named_after_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported = export(OneQuantizer(quantizer(0.5)), torch.ones(2))
    assert [each.name for each in tmp_path.iterdir()] == ["OneQuantizer.onnx"]
    assert exported.path == Path("OneQuantizer.onnx").absolute()
    assert repr(exported) == (
        "ExportedModel('OneQuantizer.onnx': forward(x: float[2]) -> output: float[2]; 1 quantizers; "
        "ONNX Runtime within 0 steps (at 'quant'))"
    )
