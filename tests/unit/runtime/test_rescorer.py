"""Hypotheses ranked by a neural language model: by brute force, live and whole, on and off."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import mynah  # noqa: E402
from mynah.cli import main  # noqa: E402
from mynah.config import as_dict  # noqa: E402
from mynah.decoding import DecodingOptions, Hotwords, Hypothesis  # noqa: E402
from mynah.decoding.ngram import load_ngram  # noqa: E402
from mynah.errors import ConfigError, ModelError  # noqa: E402
from mynah.export.folder import export_folder  # noqa: E402
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder  # noqa: E402
from mynah.models.lm.model import LanguageModel, LanguageModelConfig  # noqa: E402
from mynah.models.load import load_model as load_weights  # noqa: E402
from mynah.nn.weights import write_weights  # noqa: E402
from mynah.runtime.decode import Decoder, Heard  # noqa: E402
from mynah.runtime.model import load_model  # noqa: E402
from mynah.runtime.request import Request, plan  # noqa: E402
from mynah.runtime.rescorer import Rescorer, load_rescorer  # noqa: E402
from mynah.text import char_tokenizer  # noqa: E402
from tone_model import RATE, UNITS, speak, unigrams, write_tone_model  # noqa: E402

ARPA = unigrams({"ab": -0.6, "cad": -0.7, "cab": -0.8, "be": -0.9, "bad": -0.9})


def write_lm(folder: Path, *, seed: int = 5, scale: float = 3.0) -> Path:
    """A language model of letters with random weights, sure of what it says."""
    tokenizer = char_tokenizer(["abcde"])
    torch.manual_seed(seed)
    model = LanguageModel(LanguageModelConfig(tokenizer.vocab_size, 16, 2, 2, 24))
    with torch.no_grad():
        model.table.weight.mul_(scale)
    info = ModelInfo(
        family="lm", name="letters", sample_rate=0, config=as_dict(model.config),
        tokenizer=tokenizer.to_dict(),
    )  # fmt: skip
    with write_model_folder(folder.with_suffix(".weights"), info) as work:
        write_weights(dict(model.named_parameters()), work / "weights.safetensors")
        (work / "CARD.md").write_text("# letters\n", "utf-8")
        tokenizer.save(work / "tokenizer")
    export_folder(read_model_folder(folder.with_suffix(".weights")), folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tone model with words, one that ranks them too, and what it ranks them with."""
    place = tmp_path_factory.mktemp("models")
    (place / "words.arpa").write_text(ARPA, "utf-8")
    write_tone_model(place / "plain")
    arguments = ["lexicon", str(place / "plain"), str(place / "words")]
    given = ["--ngram", str(place / "words.arpa"), "--set", "lm_weight=0.8"]
    assert main([*arguments, *given]) == 0
    lm = str(write_lm(place / "lm"))
    more = ["--rescorer", lm, "--set", "rescorer_share=0.6", "--set", "nbest=40"]
    assert main(["lexicon", str(place / "words"), str(place / "ranked"), *more]) == 0
    return place


def heard(text: str, *, doubt: float, seed: int = 0) -> Heard:
    """What is heard of ``text`` when every letter might be another."""
    dice = np.random.default_rng(seed)
    probs = np.full((2 * len(text), len(UNITS)), 0.001)
    for i, unit in enumerate(text.replace(" ", "▁")):
        probs[2 * i, UNITS.index(unit)] = 1 - doubt
        probs[2 * i + 1, 0] = 1.0
        if unit != " ":
            probs[2 * i, 3:8] += doubt * dice.random(5)
    probs /= probs.sum(axis=1, keepdims=True)
    return Heard(np.log(probs).astype(np.float32), np.zeros((len(probs), 40), np.float32))


ITEMS = [
    heard(text, doubt=0.6, seed=seed)
    for seed, text in enumerate(("ab cad", "be", "cab bad ab", "bad be cad ab", "cad ab", "be cab"))
]


def texts(hypothesis: Hypothesis) -> list[str]:
    return [text for text, _, _ in hypothesis.words]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_sentence_does_not_depend_on_its_batch(place: Path, precision: str) -> None:
    rescorer = Rescorer(read_model_folder(place / "lm"), precision=precision)
    dice = np.random.default_rng(0)
    words = ["ab", "cad", "be", "deed", "a", "ebbed"]
    sentences = [list(dice.choice(words, int(n))) for n in dice.integers(0, 30, 150)]
    sentences += [["ab"] * 700]  # longer than a batch may be
    together = rescorer.word_scores(sentences)
    totals = rescorer.scores(sentences)
    for number in (0, 3, 71, 149, 150):
        alone = rescorer.word_scores([sentences[number]])[0]
        assert alone.shape == (len(sentences[number]) + 1,)
        np.testing.assert_allclose(together[number], alone, rtol=0, atol=1e-4)
        assert totals[number] == pytest.approx(alone.sum(), abs=1e-3)
        assert (alone < 0).all()
    assert rescorer.scores([]) == []


def test_sentences_share_their_beginnings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = read_model_folder(place / "lm.weights")
    model = load_weights(weights).eval()
    rescorer = Rescorer(read_model_folder(place / "lm"), precision="fp32")
    sizes = []
    run = rescorer._graph.run
    monkeypatch.setattr(
        rescorer._graph, "run", lambda feed: sizes.append(len(feed["tokens"])) or run(feed)
    )
    begin = ["ab", "cad", "be"] * 8
    monkeypatch.setattr("mynah.runtime.rescorer._PIECES", 1000)
    sentences = [[*begin, *end] for end in (["a"], [], ["be"], ["a", "be"], ["a"], ["deed"])]
    found = rescorer.word_scores(sentences)
    rows = [rescorer.tokenizer.encode(" ".join(words)) for words in sentences]
    assert sum(sizes) < 1 + len(rows[0]) + 15 < sum(map(len, rows)) / 3
    for row, scores in zip(rows, found, strict=True):
        tokens = torch.tensor([[rescorer.tokenizer.sos, *row, rescorer.tokenizer.eos]])
        with torch.no_grad():
            assert scores.sum() == pytest.approx(float(model(tokens).sum()), abs=1e-3)
    sizes.clear()
    monkeypatch.setattr("mynah.runtime.rescorer._PIECES", 90)  # one tree cannot hold them all
    dice = np.random.default_rng(1)
    many = [list(dice.choice(begin, 12)) for _ in range(9)]
    alone = [rescorer.scores([words])[0] for words in many]
    sizes.clear()
    np.testing.assert_allclose(rescorer.scores(many), alone, atol=1e-4)
    assert len(sizes) > 1 and max(sizes) <= 90


@pytest.mark.parametrize("hotwords", [None, "be=2.0"])
@pytest.mark.parametrize("bonus", [0.0, 1.5])
def test_the_ranking_is_that_of_each_hypothesis_alone(
    place: Path, hotwords: str | None, bonus: float
) -> None:
    model = load_model(place / "ranked")
    options = dataclasses.replace(model.decoding_options(), rescorer_bonus=bonus)
    assert (options.rescorer_share, options.nbest, options.lm_weight) == (0.6, 40, 0.8)
    preferred = None if hotwords is None else Hotwords.parse([hotwords])
    ranked = Decoder(model, options, hotwords=preferred, rescorer=model.words.rescorer)
    plain = Decoder(model, dataclasses.replace(options, beam=40), hotwords=preferred)
    rescorer, ngram = model.words.rescorer, model.words.ngram
    assert rescorer is not None and ngram is not None
    together, changed = ranked.best(ITEMS), 0
    for item, best in zip(ITEMS, together, strict=True):
        search = plain.search()
        nbest = search.nbest(search.advance(search.start(), item.log_probs))
        assert len(nbest) > 1 and len({tuple(texts(h)) for h in nbest}) == len(nbest)
        scores = []
        for hypothesis in nbest:
            words = texts(hypothesis)
            neural, before = rescorer.scores([words])[0], ngram.score_sentence(words)
            more = 0.8 * 0.6 * (neural - before) + bonus * len(words)
            scores.append(hypothesis.score + more)
        first = int(np.argmax(scores))
        chosen = nbest[first]
        assert (best.words, best.tokens, best.times) == (
            chosen.words, chosen.tokens, chosen.times,
        )  # fmt: skip
        assert best.score == pytest.approx(scores[first], abs=1e-4)
        # what is added is the models' and the hotwords' part of the score, sound apart
        assert best.score - best.added == pytest.approx(chosen.score - chosen.added, abs=1e-4)
        assert ranked.best([item])[0].words == best.words
        changed += first != 0
    assert changed  # else this shows nothing


def test_it_is_the_models_own_until_told_otherwise(place: Path) -> None:
    model = load_model(place / "ranked")
    assert plan(model, Request()).decoder.rescorer is model.words.rescorer
    assert plan(model, Request(rescorer=True)).decoder.rescorer is model.words.rescorer
    assert plan(model, Request(rescorer=False)).decoder.rescorer is None
    assert plan(model, Request(method="greedy")).decoder.rescorer is None
    given = plan(load_model(place / "words"), Request(rescorer=str(place / "lm"))).decoder
    assert given.rescorer is load_rescorer(place / "lm")
    own = plan(model, Request()).decoder
    assert [h.words for h in own.best(ITEMS)] != [
        h.words for h in plan(model, Request(rescorer=False)).decoder.best(ITEMS)
    ]
    assert Request(script="taiwan").key() == Request(punctuate=True).key() == Request().key()
    assert Request(rescorer=str(place / "lm")).key() != Request().key() != Request(
        rescorer=False
    ).key()  # fmt: skip
    with pytest.raises(ConfigError, match="rescorer: tones has none; name a model"):
        plan(load_model(place / "words"), Request(rescorer=True))
    with pytest.raises(ConfigError, match="rescorer: ranks words of a lexicon, not of greedy"):
        plan(model, Request(method="greedy", rescorer=str(place / "lm")))


@pytest.mark.parametrize("rescorer", [None, False])
def test_live_is_whole(place: Path, rescorer: bool | None) -> None:
    recognizer = mynah.load(place / "ranked")
    dice = np.random.default_rng(3)
    samples = speak("ab cad bad cab be")
    samples = samples + 0.5 * np.max(np.abs(samples)) * dice.standard_normal(len(samples)).astype(
        np.float32
    )
    request = Request(rescorer=rescorer, vad=False)
    whole = recognizer.transcribe(samples, request, rate=RATE)
    live = []
    for block in (160, 1700, 40_000):
        session = recognizer.stream(request)
        for start in range(0, len(samples), block):
            session.feed(samples[start : start + block])
        live.append(session.finish())
    for other in live:
        assert [(w.text, w.start, w.end, w.confidence) for w in other.words] == [
            (w.text, w.start, w.end, w.confidence) for w in live[0].words
        ]
    assert whole.text and live[0].text == whole.text


def test_the_command_says_what_it_added(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    lm = str(place / "lm")
    assert main(["lexicon", str(place / "ranked"), str(out), "--rescorer", lm]) == 0
    said = capsys.readouterr().out
    assert "with letters to rank what is found" in said and "lm/rescorer" in said
    folder = read_model_folder(out)
    folder.verify()
    inner = sorted(name for name in folder.files if name.startswith("lm/rescorer/"))
    assert [name.removeprefix("lm/rescorer/") for name in inner] == [
        "CARD.md", "model.toml", "onnx/lm.int8.onnx", "tokenizer/units.txt",
    ]  # fmt: skip
    assert folder.info.decoding["rescorer_share"] == 0.6  # kept
    # a new lexicon keeps it
    again = ["--ngram", str(place / "words.arpa")]
    assert main(["lexicon", str(out), str(tmp_path / "again"), *again]) == 0
    assert load_model(tmp_path / "again").words.rescorer is not None
    for model, given, line in (
        ("plain", lm, "has no lexicon, whose words a rescorer could rank"),
        ("words", str(place / "lm.weights"), "has no graph; mynah export makes one"),
        ("words", str(place / "plain"), "is a u2 model, not a language model"),
    ):
        assert main(["lexicon", str(place / model), str(out), "--rescorer", given]) == 2
        assert line in capsys.readouterr().err


def test_perplexities_are_of_the_same_words(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    lines = ["ab cad", "", "be unheard ab", "bad"]
    text.write_text("\n".join(lines), "utf-8")
    arguments = ["lm", "ppl", str(place / "words.arpa"), str(text), "--json", "--neural"]
    assert main([*arguments, str(place / "lm"), "--share", "0.3"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["sentences"], figures["tokens"], figures["unknown_words"]) == (3, 9, 1)
    ngram, rescorer = load_ngram(place / "words.arpa"), load_rescorer(place / "lm")
    logs = []
    for words in (line.split() for line in lines if line):
        state = ngram.start()
        for word, neural in zip([*words, "</s>"], rescorer.word_scores([words])[0], strict=True):
            state, by_ngram = ngram.score(state, ngram.word_id(word))
            both = np.log(0.3 * np.exp(neural) + 0.7 * np.exp(by_ngram))
            if word != "unheard":
                logs.append((by_ngram, neural, both))
    expected = np.exp(-np.mean(logs, axis=0))
    names = ("perplexity_of_known_words", "by_the_neural_model", "by_both")
    np.testing.assert_allclose([figures[name] for name in names], expected, rtol=1e-4)
    assert main([*arguments, str(place / "lm"), "--share", "1.0"]) == 2
    assert "--share: must be between 0 and 1, got 1.0" in capsys.readouterr().err


def test_damaged_models_get_one_line(place: Path, tmp_path: Path) -> None:
    def damaged(name: str, content: bytes) -> Path:
        target = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(place / "lm", target)
        (target / name).write_bytes(content)
        return target

    graph = (place / "lm" / "onnx" / "lm.int8.onnx").read_bytes()
    short = damaged("onnx/lm.int8.onnx", graph[: len(graph) // 2])
    with pytest.raises(ModelError, match="was altered") as caught:
        load_rescorer(short)
    with write_model_folder(short, read_model_folder(short).info) as work:
        shutil.copytree(short, work, dirs_exist_ok=True)
    with pytest.raises(ModelError, match="not a graph that ONNX Runtime can run") as caught:
        load_rescorer(short)
    assert "\n" not in str(caught.value)
    other = tmp_path / "other"
    info = dataclasses.replace(
        read_model_folder(place / "lm").info, tokenizer=char_tokenizer(["xy"]).to_dict()
    )
    with write_model_folder(other, info) as work:
        shutil.copytree(place / "lm", work, dirs_exist_ok=True)
        char_tokenizer(["xy"]).save(work / "tokenizer")
    with pytest.raises(ModelError, match="the graph has 8 pieces, the tokenizer 5"):
        load_rescorer(other)
    with pytest.raises(ModelError, match="no such model or folder"):
        load_rescorer("nowhere")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rescorer_share": 1.5}, "rescorer_share: 1.5 is not between 0 and 1"),
        ({"nbest": 0}, "nbest: 0 is not 1 or more"),
        ({"risk_scale": -1.0}, "risk_scale: -1.0 is not a number of 0 or more"),
        ({"rescorer_bonus": float("inf")}, "rescorer_bonus: inf is not a number"),
    ],
)
def test_impossible_settings_get_one_line(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecodingOptions(**values)  # type: ignore[arg-type]
