"""Attention in one call of torch is recorded and quantized in its parts, and computes what torch computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import UnknownOpWarning, check_result_of, set_fake_quantize

Around = Callable[..., tuple[nn.Module, Any]]
X = torch.linspace(-2, 2, 2 * 5 * 8).reshape(2, 5, 8).sin()
AHEAD = torch.ones(5, 5).bool().triu(1)
PADDING = torch.tensor([[0, 0, 0, 0, 1], [0, 0, 0, 1, 1]]).bool()


def mha(**options: Any) -> nn.Module:
    return nn.MultiheadAttention(8, 2, **options)


def grouped(self: nn.Module, x: Tensor) -> Tensor:
    query, key = x.view(2, 5, 2, 4).transpose(1, 2), x[..., :4].view(2, 5, 1, 4).transpose(1, 2)
    return F.scaled_dot_product_attention(query, key, key, enable_gqa=True)


CASES = {
    "sdpa": (None, lambda s, x: F.scaled_dot_product_attention(x, x * 2, x)),
    "causal": (None, lambda s, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "bool mask, scale": (None, lambda s, x: F.scaled_dot_product_attention(x, x, x, ~AHEAD, scale=0.3)),
    "float mask": (None, lambda s, x: F.scaled_dot_product_attention(x, x, x, attn_mask=AHEAD * -2.0)),
    "grouped queries": (None, grouped),
    "self attention": (mha(), lambda s, x: s.m(x, x, x)[0]),
    "no weights": (mha(batch_first=True), lambda s, x: s.m(x, x, x, need_weights=False)[0]),
    "weights": (mha(batch_first=True), lambda s, x: s.m(x, x, x)[1]),
    "weights of each head": (mha(), lambda s, x: s.m(x, x, x, average_attn_weights=False)[1]),
    "masks": (mha(batch_first=True), lambda s, x: s.m(x, x, x, attn_mask=AHEAD, key_padding_mask=PADDING)[0]),
    "other widths": (mha(kdim=4, vdim=6), lambda s, x: s.m(x, x[..., :4], x[..., :6])[0]),
    "no batch, no bias": (mha(bias=False), lambda s, x: s.m(x[0], x[0], x[0])[0]),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), lambda s, x: s.m(x)),
    "decoder": (nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), lambda s, x: s.m(x, x, tgt_mask=AHEAD)),
}


@pytest.mark.parametrize("case", CASES)
def test_attention_is_quantized_in_its_parts(case: str, around: Around) -> None:
    module, body = CASES[case]
    model, prepared = around(body, X, **({} if module is None else {"m": module}))
    assert check_result_of(prepared).float_ops == ()
    names = [row.name for row in check_result_of(prepared).layers]
    assert sum("_generated_matmul_" in name for name in names) >= 2
    assert any("_generated_softmax_" in name for name in names)
    torch.testing.assert_close(prepared(X), model(X), atol=0.15, rtol=0.1)
    set_fake_quantize(prepared, "calibration")  # the parts, their values as they are
    torch.testing.assert_close(prepared(X), model(X), atol=1e-5, rtol=1e-5)
    set_fake_quantize(prepared, "float")  # torch's one call again
    assert torch.equal(prepared(X), model(X))


def test_the_weights_of_the_projections_are_quantized_per_channel(around: Around) -> None:
    _, prepared = around(lambda s, x: s.m(x, x, x, attn_mask=AHEAD)[0], X, m=mha(batch_first=True))
    quantizer = prepared.m._generated_linear_0.operand_fake_quant["1"]
    assert (quantizer.ch_axis, quantizer.scale.shape) == (0, (8,))
    assert prepared.m._generated_softmax_0.operand_fake_quant is None  # the mask is no activation


def test_a_rare_form_stays_float_and_is_named(around: Around) -> None:
    with pytest.warns(UnknownOpWarning, match=r"m\[multi_head_attention_forward\]"):
        model, prepared = around(lambda s, x: s.m(x, x, x)[0], X, m=mha(add_bias_kv=True))
    torch.testing.assert_close(prepared(X), model(X), atol=0.15, rtol=0.1)


def test_gradients_reach_the_projections(around: Around) -> None:
    _, prepared = around(lambda s, x: s.m(x, x, x, need_weights=False)[0], X, m=mha())
    set_fake_quantize(prepared.train(), "qat")
    prepared(X).square().sum().backward()
    assert prepared.m.in_proj_weight.grad.abs().sum() > 0
    assert prepared.m.out_proj.weight.grad.abs().sum() > 0
