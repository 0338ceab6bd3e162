"""What every test starts from: few threads, the same seed, no march."""

from __future__ import annotations

import os

# Before torch loads its OpenMP: threads that wait spinning take the cores from whoever works.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

from nashquant import march

# The first backward starts a thread of autograd for each device, after which no forked process can train. Now there is
# none; but torch's fake tensors, which exporters use, make known a GPU that is not there.
torch.ones(1, requires_grad=True).sum().backward()

hypothesis.settings.register_profile("fast", max_examples=50, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(autouse=True)
def _the_same_start() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    march._current = None
