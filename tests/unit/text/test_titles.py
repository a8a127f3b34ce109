"""Titles as they are said, and as in print."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.cli import main
from mynah.decoding.ngram import load_ngram
from mynah.runtime.readable import Readable
from mynah.text import normalize_for_scoring
from mynah.text.titles import as_said
from mynah.text.vocabulary import count_words


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("Mr. Smith and Mrs. Jones", "en", "mister smith and missus jones"),
        ("Dr. MR MRS", "en-GB", "doctor mister missus"),
        ("Mr. Smith", "de", "mr smith"),
        ("drmr mrsx", "en", "drmr mrsx"),
        ("", "en", ""),
    ],
)
def test_titles_are_said(text: str, language: str, said: str) -> None:
    assert as_said(normalize_for_scoring(text, language), language) == said


def test_words_and_models_are_of_what_is_said(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Mr. Smith met Dr. Jones.\nMister Smith met Mrs. Jones.\n", "utf-8")
    counts = count_words([text])
    assert (counts["mister"], counts["doctor"], counts["missus"], counts["mr"]) == (2, 1, 1, 0)
    model = tmp_path / "m.ngram"
    order = ["--order", "2", "--language", "en", "--out", str(model)]
    assert main(["lm", "train", str(text), *order]) == 0
    vocab = load_ngram(model).vocab
    assert {"mister", "missus", "doctor"} <= {*vocab} and "mr" not in vocab


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_titles_in_print() -> None:
    pytest.importorskip("wetext")
    said = "mister smith met missus jones and the mister was glad"
    text = Readable.load("en", True, True).text(said)
    assert "Mr. Smith" in text and "Mrs. Jones" in text and "the mister" in text
    assert "Mister Smith" in Readable.load("en", True, False).text(said)
    assert Readable.load("en", False, True).text(said) == said  # which is a name is not known
    assert Readable.load("en", False, True).text("Mister Smith") == "Mr. Smith"
