"""The plain searches that the tests compare with, and the data of the benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(path: Path) -> ModuleType:
    name = f"mynah_tests_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The module ``plain_search`` beside this file."""
    return _load(Path(__file__).with_name("plain_search.py"))


@pytest.fixture(scope="session")
def benchmark_search(repository: Path) -> ModuleType:
    """The module ``benchmarks/search.py``."""
    return _load(repository / "benchmarks" / "search.py")


@pytest.fixture(scope="session")
def plain_words() -> ModuleType:
    """The module ``plain_words`` beside this file."""
    return _load(Path(__file__).with_name("plain_words.py"))
