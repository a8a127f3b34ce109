"""What the recipes' tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def own_data(speech: Path, tmp_path: Path) -> Path:
    """Two folders with a few recordings and a manifest each, as ``mynah data make`` leaves them."""
    header, *rows = (speech / "manifest.tsv").read_text("utf-8").splitlines()
    for name in ("train", "dev"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        mine = [row for row in rows if row.split("\t")[5] == name][:3]
        for row in mine:
            shutil.copy(speech / row.split("\t")[1], folder)
        (folder / "manifest.tsv").write_text("\n".join([header, *mine]) + "\n", "utf-8")
    return tmp_path / "data"
