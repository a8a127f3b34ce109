"""The verb ``mynah lm``."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import math
from pathlib import Path

import pytest

from mynah.cli import main
from mynah.decoding.ngram import load_ngram


@pytest.fixture(scope="module")
def text(repository: Path) -> Path:
    return repository / "examples" / "sentences.txt"


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "own.ngram"
    assert main(["lm", "train", str(text), "--out", str(path), "--language", "en"]) == 0
    return path


def test_train(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_ngram(trained)
    assert model.order == 3
    assert "harbour" in model.vocab and "The" not in model.vocab
    assert model.trie.vocab[:4] == ["<unk>", "<s>", "</s>", "the"]
    state, _ = model.score(model.start(), model.word_id("the"))
    assert model.score(state, model.word_id("bird"))[1] > model.score(state, model.unk)[1]


def test_perplexity_is_that_of_the_scores(
    trained: Path, text: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = tmp_path / "some.txt"
    given.write_text("The bird listens.\n\nThe zebra listens!\n")
    assert main(["lm", "ppl", str(trained), str(given), "--language", "en", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = load_ngram(trained)
    total = sum(model.score_sentence(s.split()) for s in ("the bird listens", "the zebra listens"))
    assert found["log10_probability"] == pytest.approx(total / math.log(10), abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(-total / 8), rel=1e-6)
    assert (found["sentences"], found["tokens"], found["unknown_words"]) == (2, 8, 1)
    assert found["unknown_percent"] == pytest.approx(100 / 6)
    assert main(["lm", "ppl", str(trained), str(text)]) == 0
    assert "unknown words" in capsys.readouterr().out


def test_prune_and_convert(trained: Path, tmp_path: Path) -> None:
    pruned, back = tmp_path / "p.arpa.gz", tmp_path / "p.ngram"
    code = main(["lm", "prune", str(trained), "--threshold", "1e-3", "--out", str(pruned)])
    assert code == 0
    assert main(["lm", "convert", str(pruned), str(back), "--mapped", "--bits", "32"]) == 0
    whole, small, same = map(load_ngram, (trained, pruned, back))
    assert sum(small.trie.counts) < sum(whole.trie.counts)
    assert same.trie.counts == small.trie.counts
    assert same.score_sentence(["the", "bird"]) == small.score_sentence(["the", "bird"])


def test_chinese_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = tmp_path / "zh.txt"
    given.write_text("我们用 Python 写程序。\n我们说话。\n", "utf-8")
    out = tmp_path / "zh.ngram"
    options = ["--language", "zh", "--characters"]
    assert main(["lm", "train", str(given), "--out", str(out), *options]) == 0
    assert set(load_ngram(out).trie.vocab[3:]) == set("我们用写程序说话") | {"python"}


@pytest.mark.parametrize("kind", ["gz", "xz", "-"])
def test_packed_texts(
    text: Path, trained: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, name = text.read_bytes(), tmp_path / f"text.{kind}"
    if kind == "-":
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    else:
        name.write_bytes(gzip.compress(data) if kind == "gz" else lzma.compress(data))
    source = "-" if kind == "-" else str(name)
    out = tmp_path / "m.ngram"
    assert main(["lm", "train", source, "--out", str(out), "--language", "en"]) == 0
    assert out.read_bytes() == trained.read_bytes()


def test_vocabulary_of_a_file(text: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.dict"
    words.write_text("bird B ER D\nthe DH AH\nyonder Y AA N D ER\n")
    out = tmp_path / "m.arpa"
    command = ["lm", "train", str(text), "--out", str(out), "--vocab"]
    assert main([*command, str(words), "--memory", "20M"]) == 0
    assert set(load_ngram(out).vocab) == {"<unk>", "<s>", "</s>", "bird", "the", "yonder"}
    assert main([*command, "5"]) == 0
    assert len(load_ngram(out).vocab) == 8


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "missing.txt", "--out", "m.ngram"], "missing.txt: No such file"),
        (["train", "latin.txt", "--out", "m.ngram"], "latin.txt: not UTF-8"),
        (["train", "cut.gz", "--out", "m.ngram"], "cut.gz: damaged file"),
        (["train", "no.xz", "--out", "m.ngram"], "no.xz: damaged file"),
        (["train", "no.gz", "--out", "m.ngram"], "no.gz: damaged file"),
        (["train", "empty.txt", "--out", "m.ngram"], "the text is empty"),
        (["train", "good.txt", "--out", "m.ngram", "--memory", "1K"], "memory: at least 16M"),
        (["train", "good.txt", "--out", "m.ngram", "--bits", "1"], "bits: must be 2 to 8"),
        (["train", "good.txt", "--out", "m.ngram", "--order", "99"], "order: must be 1 to 16"),
        (["train", "good.txt", "--out", "m.ngram", "--cutoff", "0", "2", "1"], "do not fall"),
        (["train", "good.txt", "--out", "m.ngram", "--vocab", "empty.txt"], "no words"),
        (["train", "good.txt", "--out", "m.ngram", "--temp", "nowhere"], ""),
        (["train", "good.txt", "--out", "good.txt"], "--out: good.txt would be written over"),
        (["prune", "good.txt", "--threshold", "1", "--out", "m.ngram"], "not an ARPA file"),
        (["prune", "good.txt", "--threshold", "nan", "--out", "m.ngram"], "--threshold"),
        (["ppl", "short.txt", "good.txt"], "not an ARPA file"),
        (["train", "good.txt", "--out", "m.ngram", "--memory", ""], "'' is no size"),
        (["ppl", "missing.ngram", "good.txt"], "missing.ngram: No such file"),
        (["convert", "empty.txt", "m.ngram"], "empty.txt, line 1: no \\data\\: not an ARPA file"),
    ],
)
def test_one_line_and_nothing_half_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.txt").write_text("a b\n" * 1001)
    Path("empty.txt").write_text("")
    Path("short.txt").write_text("a b\n")
    Path("latin.txt").write_bytes("é\n".encode("latin-1"))
    Path("cut.gz").write_bytes(gzip.compress(b"a b\n" * 99)[:-10])
    Path("no.gz").write_bytes(b"no gzip")
    Path("no.xz").write_bytes(b"no xz")
    code = main(["lm", *arguments])
    error = capsys.readouterr().err.splitlines()
    if not line:  # small texts need no files
        assert code == 0
        return
    assert code == 2
    assert error[-1].startswith("mynah lm") and line in error[-1]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((".", "m."))]
