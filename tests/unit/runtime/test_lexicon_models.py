"""Models that hold a lexicon: written by the command, read lazily, searched live and whole."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import mynah
from mynah.cli import main
from mynah.decoding import DecodingOptions, Hotwords
from mynah.decoding.lexicon import make_lexicon
from mynah.decoding.lexicon_file import save_lexicon
from mynah.decoding.ngram import load_ngram
from mynah.errors import ConfigError, InputError, ModelError
from mynah.model_folder import read_model_folder
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.lexicon import LEXICON, NGRAM
from mynah.runtime.lexicon_folder import add_lexicon
from mynah.runtime.model import load_model
from tone_model import RATE, UNITS, speak, unigrams, write_tone_model

ARPA = unigrams({"ab": -0.6, "cad": -0.7, "be": -1.5, "Öl": -1.5})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tone model with the words ab, cad and be."""
    place = tmp_path_factory.mktemp("models")
    (place / "words.arpa").write_text(ARPA, "utf-8")
    write_tone_model(place / "plain")
    arguments = ["lexicon", str(place / "plain"), str(place / "words"), "--ngram"]
    assert main([*arguments, str(place / "words.arpa"), "--set", "lm_weight=0.5"]) == 0
    return place


def test_the_command_adds_what_the_model_can_spell(folder: Path) -> None:
    model = load_model(folder / "words")
    lexicon = model.words.lexicon
    assert lexicon.words == ("ab", "be", "cad")  # the units have no Ö
    assert lexicon.boundary == UNITS.index("▁")
    assert lexicon.costs is not None
    options = model.decoding_options()
    assert (options.method, options.lm_weight, options.top_units) == ("lexicon", 0.5, 20)
    assert model.words.lexicon is lexicon
    source, target = read_model_folder(folder / "plain"), read_model_folder(folder / "words")
    assert set(target.files) - set(source.files) == {LEXICON, NGRAM}
    target.verify()


def test_words_are_heard_whole_and_live(folder: Path) -> None:
    recognizer = mynah.load(folder / "words")
    samples = speak("ab cad")
    assert recognizer.transcribe(samples, rate=RATE).text == "ab cad"
    session = recognizer.stream()
    for start in range(0, len(samples), 1700):
        session.feed(samples[start : start + 1700])
    assert session.finish().text == "ab cad"
    # what the lexicon does not have is heard as what it has
    heard = recognizer.transcribe(speak("ab cae"), rate=RATE).text
    assert heard.split()[0] == "ab"
    assert set(heard.split()) <= {"ab", "be", "cad"}


def heard(folder: Path, text: str) -> Heard:
    probs = np.full((2 * len(text), len(UNITS)), 0.01, np.float32)
    for i, unit in enumerate(text.replace(" ", "▁")):
        probs[2 * i, UNITS.index(unit)] = probs[2 * i + 1, 0] = 0.92
    return Heard(np.log(probs), np.zeros((len(probs), 40), np.float32))


def test_hotwords_and_another_language_model(folder: Path) -> None:
    model = load_model(folder / "words")
    options = model.decoding_options()
    item = heard(folder, "ab")
    item.log_probs[0] = np.log(np.where(np.isin(np.arange(len(UNITS)), [3, 4]), 0.45, 0.0143))
    item.log_probs[2] = np.log(np.where(np.isin(np.arange(len(UNITS)), [4, 7]), 0.45, 0.0143))
    plain = Decoder(model, options).best([item])[0]
    assert [text for text, _, _ in plain.words] == ["ab"]
    hotwords = Hotwords.parse(["be=3.0"])
    liked = Decoder(model, options, hotwords=hotwords).best([item])[0]
    assert [text for text, _, _ in liked.words] == ["be"]
    other = folder / "other.arpa"
    other.write_text(ARPA.replace("-1.5\tbe", "-0.1\tbe").replace("-0.6\tab", "-3.0\tab"), "utf-8")
    lm = load_ngram(other)
    fused = Decoder(model, options, lm=lm).best([item])[0]
    assert [text for text, _, _ in fused.words] == ["be"]
    second = DecodingOptions(method="lexicon", lm_weight=0.5, lm_pass="second")
    again = Decoder(model, second, lm=lm).best([item])[0]
    assert [text for text, _, _ in again.words] == ["be"]
    attention = DecodingOptions(method="lexicon", lm_weight=0.5, attention_pass=True)
    assert Decoder(model, attention).best([item])[0].confidence is not None


def test_the_words_of_another_model(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["lexicon", str(folder / "plain"), str(out), "--like"]
    assert main([*arguments, str(folder / "words"), "--set", "lm_weight=0.25"]) == 0
    found, words = read_model_folder(out), read_model_folder(folder / "words")
    assert found.files == words.files and found.info.name == "tones"
    options = load_model(out).decoding_options()
    assert (options.method, options.lm_weight) == ("lexicon", 0.25)
    assert mynah.load(out).transcribe(speak("ab cad"), rate=RATE).text == "ab cad"
    # a lexicon that the model has is replaced, and none can be taken from where there is none
    assert main(["lexicon", str(out), str(out), "--like", str(folder / "words")]) == 0
    assert load_model(out).decoding_options().lm_weight == 0.5
    assert main([*arguments, str(folder / "plain")]) == 2
    other = write_tone_model(tmp_path / "other", letters="vwxyz")
    (tmp_path / "list").write_text("vw\n", "utf-8")
    assert main(["lexicon", str(other), str(other), "--words", str(tmp_path / "list")]) == 0
    assert main([*arguments, str(other)]) == 2, "other units"
    assert main([*arguments, str(folder / "words"), "--ngram", str(folder / "words.arpa")]) == 2


def test_threads_share_one_lexicon(folder: Path) -> None:
    model = load_model(folder / "words")
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(id(model.words.lexicon))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_unknown_words_are_spelled(folder: Path) -> None:
    model = load_model(folder / "words")
    options = DecodingOptions(method="lexicon", lm_weight=0.2, unknown_word=1.0, unknown_unit=1.0)
    best = Decoder(model, options).best([heard(folder, "ab dede")])[0]
    assert [text for text, _, _ in best.words] == ["ab", "dede"]


def test_models_without_words_say_so(folder: Path) -> None:
    model = load_model(folder / "plain")
    for method in ("lexicon", "graph"):
        with pytest.raises(ConfigError, match=f"tones has no {method}"):
            model.decoding_options(method=method)
    with pytest.raises(ConfigError, match="words has no graph|tones has no graph"):
        load_model(folder / "words").decoding_options(method="graph")


def test_a_lexicon_of_other_units_is_refused(folder: Path, tmp_path: Path) -> None:
    source = read_model_folder(folder / "words")
    table = tmp_path / "words.txt"
    table.write_text("ab\ncad\n", "utf-8")
    add_lexicon(source, tmp_path / "other", words=table)
    path = tmp_path / "other" / LEXICON
    assert load_model(tmp_path / "other").words.ngram is None
    save_lexicon(make_lexicon([("ab", (1,))], UNITS[:-1]), path)
    with pytest.raises(ModelError, match="was altered"):
        _ = load_model(tmp_path / "other").words.lexicon


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "give a table"),
        ({"table": "t", "words": "w"}, "either"),
        ({"words": "bad"}, "bad:2: the model's units cannot write 'xyz'"),
        ({"words": "good", "graph": True}, "needs a language model"),
        ({"words": "good", "boundary": "~"}, "no unit '~'"),
        ({"words": "good", "settings": ["beam=0"]}, "--set: beam"),
        ({"words": "good", "settings": ["beem=3"]}, "--set: .*beem"),
    ],
)
def test_what_cannot_be_added(
    folder: Path, tmp_path: Path, arguments: dict[str, object], line: str
) -> None:
    (tmp_path / "good").write_text("ab\n", "utf-8")
    (tmp_path / "bad").write_text("ab\nxyz\n", "utf-8")
    given = {
        key: tmp_path / str(value) if key in ("table", "words") else value
        for key, value in arguments.items()
    }
    with pytest.raises((InputError, ConfigError), match=line):
        add_lexicon(read_model_folder(folder / "plain"), tmp_path / "new", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_graph_hears_the_same(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("kaldi_decoder", reason="needs kaldi-decoder ([lm])")
    source = read_model_folder(folder / "plain")
    added = add_lexicon(source, tmp_path / "graph", ngram=folder / "words.arpa", graph=True)
    assert added.arcs > 0
    recognizer = mynah.load(tmp_path / "graph")
    samples = speak("ab cad")
    options = recognizer.model.decoding_options(method="graph")
    assert recognizer.transcribe(samples, rate=RATE, options=options).text == "ab cad"
    session = recognizer.stream(options=options)
    session.feed(samples)
    assert session.finish().text == "ab cad"
    with pytest.raises(ConfigError, match="a graph takes no hotwords"):
        Decoder(recognizer.model, options, hotwords=Hotwords.parse(["ab"])).search()


def test_a_graph_of_another_toolkit(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("kaldi_decoder", reason="needs kaldi-decoder ([lm])")
    source = read_model_folder(folder / "plain")
    add_lexicon(source, tmp_path / "graph", ngram=folder / "words.arpa", graph=True)
    files = [str(tmp_path / "graph" / "lm" / name) for name in ("TLG.fst", "words.txt")]
    target = tmp_path / "wenet"
    assert main(["lexicon", str(folder / "plain"), str(target), "--tlg", *files]) == 0
    recognizer = mynah.load(target)
    options = recognizer.model.decoding_options()
    assert (options.method, options.blank_skip) == ("graph", 0.98)
    assert recognizer.transcribe(speak("ab cad"), rate=RATE).text == "ab cad"
    assert main(["lexicon", str(folder / "plain"), str(target), "--tlg", files[1], files[1]]) == 2
