"""What the tests of streams share: one export of a small model, which takes its time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def random_u2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small U2++ model with random weights, in fp32 and int8."""
    for name in ("torch", "onnxscript", "safetensors"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    from random_u2 import write_random_u2

    return write_random_u2(tmp_path_factory.mktemp("u2"))
