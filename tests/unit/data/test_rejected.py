"""What of a set is left out, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mynah.corpus import write_tsv
from mynah.data.loader import Loader
from mynah.errors import InputError

Make = Callable[..., Loader]


def names_from(loader: Loader, epoch: int, start: int) -> list[str]:
    batches = loader.epoch(epoch, start)
    return sorted(name for batch in batches if batch is not None for name in batch.ids)


def names(loader: Loader) -> list[str]:
    return names_from(loader, 0, 0)


def test_silence_around_leaves_nothing_out(make: Make) -> None:
    silence = {"probability": 1.0, "seconds": [0.8, 1.0]}
    loader = make({"silence": silence})
    assert len(names(loader)) == 23 and not loader.quarantine


@pytest.fixture
def partly(tmp_path: Path, corpus: Path) -> dict[str, Any]:
    """Four recordings, a batch each, of which the longest is missing."""
    paths = [corpus / f"u{n:02}.flac" for n in range(4)]
    rows = [{"id": f"x{n}", "path": str(path), "text": "abc",
             "duration": soundfile.info(path).duration}
            for n, path in enumerate(paths)]  # fmt: skip
    rows[3]["path"] = str(tmp_path / "none.flac")
    write_tsv(tmp_path / "m.tsv", rows)
    return {"train": [{"manifest": str(tmp_path / "m.tsv")}], "max_items": 1}


def test_the_rest_of_an_epoch_may_have_nothing(make: Make, partly: dict[str, Any]) -> None:
    loader = make(partly)
    assert names(loader) == ["x0", "x1", "x2"]
    left = [names_from(loader, epoch, 3) for epoch in range(12)]  # the last batch of an epoch
    assert [] in left and ["x1"] in left, "what is missing is in its turn the last"
    ranks = [make({**partly, "max_items": 2}, rank=rank, world=4) for rank in range(4)]
    assert sum(len(names(rank)) for rank in ranks) == 3
    with pytest.raises(InputError, match="nothing could be read in a whole epoch"):
        names(make({**partly, "train": [{**partly["train"][0], "where": {"id": "x3"}}]}))


def test_alignments_have_units_of_the_tokenizer(make: Make, corpus: Path, tmp_path: Path) -> None:
    head, *lines = (corpus / "manifest.tsv").read_text("utf-8").splitlines()
    said = ["sil 2 A 9", "sil 2 aa 9", "b 11"]
    table = [f"{head}\tsounds", *(f"{line}\t{one}" for line, one in zip(lines, said, strict=False))]
    (tmp_path / "m.tsv").write_text("\n".join(table).replace("\tu", f"\t{corpus}/u") + "\n")
    loader = make({"train": [{"manifest": str(tmp_path / "m.tsv")}], "alignment": "sounds"})
    assert names(loader) == ["u00", "u02"]
    assert "sounds: the tokenizer has no unit 'aa'" in loader.quarantine[0][1]


def test_units_that_are_not_known(make: Make, corpus: Path, tmp_path: Path) -> None:
    assert make().unknown() == 0.0
    rows = [{"id": f"x{n}", "path": str(corpus / f"u{n:02}.flac"), "text": text}
            for n, text in enumerate(["Abc", "A?c?", "????"])]  # fmt: skip
    write_tsv(tmp_path / "m.tsv", rows)
    loader = make({"train": [{"manifest": str(tmp_path / "m.tsv")}]})
    assert loader.unknown() == pytest.approx(6 / 11)
    assert names(loader) == ["x0", "x1"]
    assert "has no text that a model could learn" in loader.quarantine[0][1]
