"""What all tests share: the folders of recordings and of numbers made by the originals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
os.environ.pop("MYNAH_DATA", None)  # where a user keeps sets is not where the tests look


def find_shared() -> Path | None:
    """The folder ``shared``: MYNAH_SHARED, or beside the checkout."""
    folder = Path(os.environ.get("MYNAH_SHARED") or REPOSITORY.parent / "shared")
    return folder if (folder / "parity").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``shared``; the test is skipped where there is none."""
    folder = find_shared()
    if folder is None:
        pytest.skip("needs the shared folder (MYNAH_SHARED, or ../shared)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def speech() -> Path:
    """The committed synthetic speech: ``manifest.tsv`` and its recordings."""
    return REPOSITORY / "tests" / "data" / "speech"
