"""What the manifest says of each frame: read, moved with the speed, padded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mynah.corpus import read_manifest, write_tsv
from mynah.corpus.runs import parse_runs
from mynah.data.items import frame_labels
from mynah.data.loader import Loader
from mynah.errors import InputError
from mynah.text import Tokenizer


def test_labels_of_frames(tokenizer: Tokenizer) -> None:
    a, c = tokenizer.encode("A") + tokenizer.encode("c")
    ids = {"A": a, "c": c}
    found = frame_labels((("sil", 2), ("A", 3), ("c", 1)), ids, 0, 8)
    assert found.tolist() == [0, 0, a, a, a, c, -1, -1]
    assert frame_labels((("sil", 2), ("A", 4), ("c", 2)), ids, 0, 4, 2.0).tolist() == [
        0,
        a,
        a,
        c,
    ]
    assert frame_labels((), ids, 0, 2).tolist() == [-1, -1]
    for wrong in ("A", "A 1 c", "A x", "1 A"):
        with pytest.raises(InputError, match="no list of units"):
            parse_runs(wrong)


def test_a_batch_has_them_where_the_recipe_asks(
    make: Callable[..., Loader], corpus: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [
        {"id": c.id, "path": c.recording.source, "duration": c.duration, "text": c.text,
         "sounds": "" if n % 2 else "sil 5 A 7"}
        for n, c in enumerate(read_manifest(corpus))
    ]  # fmt: skip
    write_tsv(tmp_path / "manifest.tsv", rows)
    given = {str(row["id"]): bool(row["sounds"]) for row in rows}
    table = {"train": [{"manifest": str(tmp_path)}], "alignment": "sounds"}
    letter = tokenizer.encode("A")[0]
    for batch in make(table).epoch(0):
        assert batch is not None and batch.labels is not None
        assert batch.labels.shape == batch.feats.shape[:2]
        for row, name in enumerate(batch.ids):
            known = [0] * 5 + [letter] * 7 if given[name] else []
            rest = [-1] * (batch.labels.shape[1] - len(known))
            assert batch.labels[row].tolist() == known + rest
    faster = next(iter(make(table | {"speed": [2.0]}).epoch(0)))
    assert faster is not None and faster.labels is not None
    row = next(row for row, name in enumerate(faster.ids) if given[name])
    np.testing.assert_array_equal(faster.labels[row][:8], [0, 0, *[letter] * 4, -1, -1])
    assert next(iter(make().epoch(0))).labels is None  # type: ignore[union-attr]
    assert torch.is_tensor(faster.labels)
