"""Attention, spelled out in ops the chip has: torch's one-call forms would hide them from the recorder."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

__all__ = ["attention_weights", "is_unusual", "multi_head_attention", "scaled_dot_product_attention"]


def attention_weights(scores: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """`softmax(scores * scale + mask)` over the last axis, as one op: a mask's -inf never meets a quantizer."""
    if has_torch_function_unary(scores):
        return handle_torch_function(attention_weights, (scores,), scores, scale, mask)
    scores = scores * scale
    return torch.softmax(scores if mask is None else scores + mask, -1)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`softmax(q @ k.T / sqrt(d) + mask) @ v` (Vaswani et al., 2017, equation 1)."""
    if enable_gqa:  # several query heads share one head of keys and values
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    with torch._C.DisableTorchFunction():
        mask = _additive(attn_mask, query)
        if is_causal:
            rows, columns = query.shape[-2], key.shape[-2]
            ahead = torch.ones(rows, columns, dtype=torch.bool, device=query.device).triu(1)
            mask = _additive(~ahead, query)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    weights = attention_weights(torch.matmul(query, key.transpose(-2, -1)), scale, mask)
    return torch.matmul(F.dropout(weights, dropout_p), value)


def is_unusual(*args: Any, **kwargs: Any) -> bool:
    """Whether a form of multi-head attention is asked that hardly anyone uses: bias_k, static_k, add_zero_attn."""
    extra = [*args[7:10], *(kwargs.get(name) for name in ("bias_k", "bias_v", "add_zero_attn"))]
    extra += [kwargs.get(name) for name in ("static_k", "static_v")]
    return any(value is not None and value is not False for value in extra)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: None,
    bias_v: None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: None = None,
    static_v: None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Projections into heads, attention in each, projection back (Vaswani et al., 2017, section 3.2.2).

    `query` (length, batch, channels) or without batch, as torch's function takes it. `is_causal` is a hint about
    `attn_mask` and changes nothing.
    """
    with torch._C.DisableTorchFunction():
        weights: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
        if not use_separate_proj_weight:
            assert in_proj_weight is not None
            weights = in_proj_weight.chunk(3)
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    batched = query.dim() == 3

    def heads(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        y = F.linear(x if batched else x.unsqueeze(1), weight, bias)  # type: ignore[arg-type]
        length, batch, channels = y.shape
        return y.view(length, batch, num_heads, channels // num_heads).permute(1, 2, 0, 3)

    q, k, v = (heads(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
    with torch._C.DisableTorchFunction():
        mask = _attention_mask(attn_mask, key_padding_mask, q, k)
    attention = attention_weights(torch.matmul(q, k.transpose(-2, -1)), 1 / math.sqrt(q.shape[-1]), mask)
    y = torch.matmul(F.dropout(attention, dropout_p, training), v)
    batch, _, length, _ = q.shape
    y = F.linear(y.permute(2, 0, 1, 3).reshape(length, batch, embed_dim), out_proj_weight, out_proj_bias)
    y = y if batched else y.squeeze(1)
    if not need_weights:
        return y, None
    attention = attention.mean(1) if average_attn_weights else attention
    return y, attention if batched else attention.squeeze(0)


def _attention_mask(mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """The two masks as one that is added to scores (batch, heads, length, source). True means ignored."""
    batch, heads, length, _ = q.shape
    total = None
    if mask is not None:
        total = _additive(mask if mask.is_floating_point() else ~mask, q)
        assert total is not None
        total = total.view(batch, heads, length, -1) if total.dim() == 3 and total.shape[0] != 1 else total
    if padding is not None:
        added = _additive(padding if padding.is_floating_point() else ~padding, q)
        assert added is not None
        added = added.view(batch, 1, 1, k.shape[2])
        total = added if total is None else total + added
    return total


def _additive(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A mask to add: 0 where a bool `mask` is True, -inf elsewhere."""
    if mask is None or mask.is_floating_point():
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(~mask, -math.inf)
