"""Runs a float model once and records which op ran where, on which tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .dynamic import seen_by
from .recorder import Recorder
from .recording import Recording
from .refused import RefusedCallError

__all__ = ["Recording", "capture"]


def capture(model: nn.Module, examples: Sequence[tuple[Any, ...]], kwargs: dict[str, Any]) -> Recording:
    """What ran, on each of the example inputs; a call that runs on several of them is one call.

    The model runs as it is (train or eval), without gradients, on a copy that shares only its parameters: buffers
    and the random state are not touched.

    Raises:
        ValueError: the model fails on some of these inputs, has no QuantStub on their way, or gives out a tensor that
            no DeQuantStub released.
        CheckpointedCallError: an op runs in a checkpointed closure.
        NotImplementedError: an op writes into an argument `out`, or a hook computes the weight of a conv or linear.
    """
    shadow = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    recorder = Recorder(shadow)
    with torch.no_grad(), torch.random.fork_rng(devices=_cuda_devices(model)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "None of the inputs have requires_grad")  # torch.utils.checkpoint's
        for number, args in enumerate(examples):
            recorder.begin(args, kwargs)
            try:
                with recorder, seen_by(recorder):
                    outputs = shadow(*args, **kwargs)
            except RefusedCallError:
                raise
            except Exception as error:
                which = f"more_example_inputs[{number - 1}]" if number else "the example inputs"
                raise ValueError(
                    f"{type(model).__name__} fails on {which} given to prepare: {type(error).__name__}: {error}"
                    f"{_hint(args)}"
                ) from error
            recorder.check(outputs)
    return recorder.recording()


def _hint(args: tuple[Any, ...]) -> str:
    if any(isinstance(each, dict) for each in args):
        return " (a dict is one positional input: what forward takes by keyword goes into example_kw_inputs)"
    return ""


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in model.parameters() if parameter.is_cuda})
