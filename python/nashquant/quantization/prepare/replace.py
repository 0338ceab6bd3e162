"""Turns modules into their quantized twins in place, and gives functional calls modules of their own."""

from __future__ import annotations

import torch
from torch import nn

from nashquant.nn import qat
from nashquant.op_kind import OpKind
from nashquant.quantization.fake_quantize import FakeQuantizeSpec, Quantizer
from nashquant.quantization.qconfig import QConfig

from .graph import Node, Op, Origin
from .plan import Plan, is_activation
from .recording import Recording
from .redirect import float_ops, own_calls
from .registry import is_float_functional, qat_class
from .scope import Redirection, redirections

__all__ = ["replace_ops"]


def replace_ops(model: nn.Module, plan: Plan, recording: Recording) -> None:
    """Gives `model` the quantizers of a plan. Modules keep their identity: only their class changes.

    So hooks, parameters, aliases and names in the state_dict stay what they were; a BatchNorm folded into its GEMM
    becomes an nn.Identity.
    """
    for op in plan.graph.ops:
        if len(op.chain) > 1:
            _fold_batch_norm(model, op)
        if op.kind is OpKind.DEQUANT:
            model.get_submodule(op.first.path).__class__ = qat.DeQuantStub
        elif op.makes_grid and (op.kind is not OpKind.EMBEDDING or plan.is_quantized(op)):
            _quantize(model, plan, op)
    for op in plan.graph.ops:  # after all quantizers are there: these borrow one
        if op.kind is OpKind.RESAMPLE:
            _borrow_grid(model, plan, op)
    writes_back = {node.path for node in plan.graph.nodes if node.writes_back}
    for (path, call), site in recording.sites.items():
        owner = model.get_submodule(path)
        own_calls(owner, path)
        name = site.path.rpartition(".")[2] if site.path else site.path
        redirections(owner)[call] = Redirection(name, site.in_region, site.path in writes_back)
    for node in recording.nodes:
        if node.entry is None and node.owner is not None:
            owner = model.get_submodule(node.owner)
            own_calls(owner, node.owner)
            float_ops(owner).add(node.label)
    for path in recording.outside | writes_back:
        module = model.get_submodule(path)
        if isinstance(module, qat.Quantized):
            module.also_float = path in recording.outside
            module.writes_back = path in writes_back
    own_calls(model, "")


def _fold_batch_norm(model: nn.Module, op: Op) -> None:
    """`weight · γ/σ` and `(bias − μ) · γ/σ + β` into the GEMM (Jacob et al., 2018, section 3.2)."""
    for node in op.chain:
        if not op.folds(node):
            continue
        norm, gemm = model.get_submodule(node.path), model.get_submodule(op.first.path)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        assert isinstance(gemm.weight, nn.Parameter)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert op.first.entry is not None
        with torch.no_grad():
            gain = (norm.running_var.double() + norm.eps).rsqrt()
            shift = -norm.running_mean.double()
            if gemm.bias is not None:
                assert isinstance(gemm.bias, nn.Parameter)
                shift += gemm.bias.double()
            if norm.affine:
                gain *= norm.weight.double()
            shift *= gain
            if norm.affine:
                shift += norm.bias.double()
            axis = op.first.entry.weight_axis
            shape = [-1 if i == axis else 1 for i in range(gemm.weight.dim())]
            if axis == 1 and getattr(gemm, "groups", 1) > 1:
                # a grouped transposed convolution: [in, out/groups, ...], the group is in the input axis
                groups = gemm.groups
                assert isinstance(groups, int)
                per_group = gain.reshape(groups, -1).repeat_interleave(gemm.weight.shape[0] // groups, 0)
                gemm.weight.mul_(per_group.reshape(*per_group.shape, *[1] * (gemm.weight.dim() - 2)))
            else:
                gemm.weight.copy_((gemm.weight.double() * gain.reshape(shape)).to(gemm.weight.dtype))
            bias = shift.to(gemm.weight.dtype)
            if gemm.bias is None:
                gemm.bias = nn.Parameter(bias, requires_grad=gemm.weight.requires_grad)
            else:
                gemm.bias.copy_(bias)
        norm._parameters.clear()
        norm._buffers.clear()
        absorbed: nn.Module = norm
        absorbed.__class__ = nn.Identity


def _quantize(model: nn.Module, plan: Plan, op: Op) -> None:
    """Gives an op its quantizers. One without a QConfig gets none, and computes in float."""
    qconfig = plan.qconfigs.get(op.name, QConfig())
    for node in op.chain if len(op.chain) > 1 else op.calls[:1]:
        if op.folds(node):
            continue
        module = _twin(model, node)
        output = qconfig.output if node is op.last else None
        device = node.outputs[0].device if node.outputs else None
        module.register_module("activation_post_process", _build(output, node.path, module, device))
        if node is op.first and op.kind is OpKind.GEMM and node.site is None:
            assert node.entry is not None
            weight, axis = module.get_parameter("weight"), node.entry.weight_axis
            where = f"{node.path}.weight"
            quantizer = _build_shaped(qconfig.weight, where, module, tuple(weight.shape), axis, weight.device)
            module.register_module("weight_fake_quant", quantizer)
    for call in op.calls if len(op.chain) == 1 else op.chain:
        if not op.folds(call):
            _quantize_operands(model, plan, op, call)


def _twin(model: nn.Module, node: Node) -> nn.Module:
    """The module that will hold a node's quantizers."""
    if node.site is not None:
        assert node.owner is not None
        owner, name = model.get_submodule(node.owner), node.path.rpartition(".")[2]
        module: nn.Module = qat.FloatFunctional()
        module.register_module("operand_fake_quant", None)
        module.register_module("input_fake_quant", None)
        module.train(owner.training)
        owner.add_module(name, module)
        return module
    module = model.get_submodule(node.path)
    if is_float_functional(module):
        module.__class__ = qat.FloatFunctional
        module.register_module("operand_fake_quant", None)
        module.register_module("input_fake_quant", None)
        return module
    twin = qat_class(module)
    if not isinstance(module, twin):
        if node.kind is OpKind.QUANT and not hasattr(module, "scale"):  # torch's stub
            vars(module).update(scale=None, qconfig=None)
        module.__class__ = twin
        module.register_module("input_fake_quant", None)
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return module


def _quantize_operands(model: nn.Module, plan: Plan, op: Op, call: Node) -> None:
    """Quantizers at the op's own door: constants, floats where asked, and the weight of a functional GEMM."""
    module = model.get_submodule(call.path)
    inner = {id(value) for node in op.chain[:-1] for value in node.outputs}
    built: dict[str, nn.Module] = {}
    for operand in call.operands:
        if id(operand.value) in inner:
            continue
        where, device = f"{call.path}.{operand.position}", operand.value.device
        quantizer: Quantizer | None = None
        if is_activation(call, operand.position):
            quantizer = _build(plan.door(op, call, operand), where, module, device)
        elif (
            call.kind is OpKind.GEMM and operand.position in ("1", "weight") and operand.value.origin is Origin.CONSTANT
        ):
            assert call.entry is not None
            weight = plan.qconfigs.get(op.name, QConfig()).weight
            quantizer = _build_shaped(weight, where, module, operand.value.shape, call.entry.weight_axis, device)
        if quantizer is not None:
            built[operand.position] = quantizer
    if not built:
        return
    if isinstance(module, qat.FloatFunctional):
        arriving = {o.position for o in call.operands if plan.dtype(o.value) is not torch.float32}
        module.requantized |= arriving & built.keys()
        module.register_module("operand_fake_quant", nn.ModuleDict({**(module.operand_fake_quant or {}), **built}))
    elif module.input_fake_quant is None:
        module.register_module("input_fake_quant", next(iter(built.values())))


def _build(
    spec: FakeQuantizeSpec | None, name: str, holder: nn.Module, device: torch.device | None, **channels: int
) -> Quantizer | None:
    if spec is None:
        return None
    fake_quant = spec(**channels)
    fake_quant.name = name
    return fake_quant.to(device).train(holder.training)


def _build_shaped(
    spec: FakeQuantizeSpec | None,
    name: str,
    holder: nn.Module,
    shape: tuple[int, ...],
    axis: int,
    device: torch.device,
) -> Quantizer | None:
    if spec is None:
        return None
    per_channel = spec.kwargs.get("qscheme") is torch.per_channel_symmetric
    channels = {"ch_axis": axis, "channel_len": shape[axis]} if per_channel else {}
    return _build(spec, name, holder, device, **channels)


def _borrow_grid(model: nn.Module, plan: Plan, op: Op) -> None:
    """Gives a resampling call the quantizer of its data; one that sees several grids rounds to none."""
    data = [call.data for call in op.calls if call.data is not None]
    sources = {id(source): source for source in map(plan.graph.grid_of, data)}
    node = op.first
    if node.site is None:
        return
    source = next(iter(sources.values())) if len(sources) == 1 else None
    quantizer = None
    if source is not None and plan.is_quantized(source):
        quantizer = model.get_submodule(source.last.path).activation_post_process
    module = _twin(model, node)
    module.register_module("activation_post_process", None)
    if isinstance(quantizer, Quantizer):
        assert node.owner is not None
        owner = model.get_submodule(node.owner)
        owner.add_module(node.path.rpartition(".")[2], qat.Resample(quantizer).train(owner.training))
