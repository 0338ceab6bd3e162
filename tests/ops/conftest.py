"""What the tests of functions share."""

import pytest

from nashquant import ops


@pytest.fixture(params=["kernel", "reference"])
def path(request, monkeypatch):
    """By the kernel, and by the torch reference."""
    if request.param == "reference":
        monkeypatch.setattr(ops._rust, "takes", lambda x: False)
    return request.param
