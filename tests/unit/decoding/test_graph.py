"""Graphs of words and the search in them, against enumeration."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mynah.decoding.graph import Graph, GraphSearch, fit_words, load_graph
from mynah.decoding.graph_build import build_graph
from mynah.decoding.lexicon import Lexicon, make_lexicon
from mynah.decoding.ngram import NgramModel, load_ngram
from mynah.errors import ConfigError, InputError, MissingDependency, ModelError

pytest.importorskip("kaldifst", reason="needs kaldifst ([lm])")
pytest.importorskip("kaldi_decoder", reason="needs kaldi-decoder ([lm])")

UNITS = ("<blank>", "x", "y", "z", "|")
ENTRIES = [("a", (1,)), ("b", (1, 2)), ("c", (2, 2)), ("d", (1, 2)), ("d", (3,)), ("new", (3, 1))]
ARPA = """\\data\\
ngram 1=7
ngram 2=6

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.7\t</s>
-0.9\ta\t-0.2
-0.8\tb\t-0.4
-0.6\tc\t-0.1
-1.1\td\t0

\\2-grams:
-0.2\t<s> a
-0.9\t<s> b
-0.4\ta b
-0.3\tb </s>
-0.5\tb c
-0.7\tc c

\\end\\
"""
ROUNDED = 2e-3  # determinisation and minimisation round weights to 1/1024


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> NgramModel:
    path = tmp_path_factory.mktemp("lm") / "toy.arpa"
    path.write_text(ARPA, "utf-8")
    return load_ngram(path)


@pytest.fixture(scope="module", params=[None, 4], ids=["plain", "boundary"])
def graph(
    request: pytest.FixtureRequest, model: NgramModel, tmp_path_factory: pytest.TempPathFactory
) -> Graph:
    folder = tmp_path_factory.mktemp("graph")
    lexicon = make_lexicon(ENTRIES, UNITS, boundary=request.param)
    files = folder / "TLG.fst", folder / "words.txt"
    states, arcs = build_graph(lexicon, model, *files, lm_weight=1.3, word_bonus=0.2)
    assert 0 < states < arcs
    return load_graph(*files, lexicon)


def best_way(model: NgramModel, words: tuple[str, ...]) -> float:
    """What a graph makes of a back-off model: backing off is allowed where it need not be, too."""
    scores = {model.start(): 0.0}
    for word in (*words, "</s>"):
        if word not in model.vocab:
            return -math.inf
        after: dict[object, float] = {}
        for state, score in scores.items():
            while True:
                follow = model.successors(state)
                found = dict(zip(follow.words.tolist(), follow.log_probs.tolist(), strict=True))
                if (number := model.word_id(word)) in found:
                    target = model.score(state, number)[0] if word != "</s>" else "end"
                    total = score + found[number]
                    after[target] = max(after.get(target, -math.inf), total)
                if follow.shorter is None:
                    break
                state, score = follow.shorter, score + follow.backoff
        scores = after  # type: ignore[assignment]
    return max(scores.values())


def random_log_probs(seed: int, frames: int, scale: float = 1.5) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, scale, (frames, len(UNITS)))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_equals_enumeration(
    graph: Graph, model: NgramModel, plain_words: ModuleType, seed: int
) -> None:
    assert graph.lexicon is not None
    log_probs = random_log_probs(seed, 4)
    every = plain_words.all_words(
        log_probs,
        ENTRIES,
        lambda words: 1.3 * best_way(model, words) + 0.2 * len(words),
        boundary=graph.lexicon.boundary,
    )
    search = GraphSearch(graph, margin=1e6)
    (best,) = search.nbest(search.advance(search.start(), log_probs))
    assert best.score == pytest.approx(max(every.values()), abs=ROUNDED)
    words = tuple(text for text, _, _ in best.words)
    assert every[words] == pytest.approx(best.score, abs=ROUNDED)
    for text, first, stop in best.words:
        assert best.tokens[first:stop] in graph.lexicon.units_of(text)
    assert list(best.times) == sorted(set(best.times))
    assert len(best.times) == len(best.tokens)


@pytest.mark.parametrize("blank_skip", [None, 0.5])
def test_any_chunks_give_the_result_of_one_shot(graph: Graph, blank_skip: float | None) -> None:
    search = GraphSearch(graph, blank_skip=blank_skip)
    rng = np.random.default_rng(3)
    for seed in range(8):
        log_probs = random_log_probs(seed, 30, 3.0)
        log_probs[:, 0] += 1.0
        log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
        whole = search.nbest(search.advance(search.start(), log_probs))
        state, first = search.start(), 0
        while first < 30:
            stop = min(first + int(rng.integers(0, 6)), 30)
            state = search.advance(state, log_probs[first:stop])
            assert len(search.nbest(state)) == 1
            first = stop
        assert state.frames == 30
        (best,) = search.nbest(state)
        assert (best.tokens, best.words, best.times) == (
            whole[0].tokens, whole[0].words, whole[0].times,
        )  # fmt: skip
        assert best.score == pytest.approx(whole[0].score, abs=1e-4)


def spoken(*units: int, sure: float = 0.97) -> np.ndarray:
    probs = np.full((len(units), len(UNITS)), (1 - sure) / (len(UNITS) - 1), np.float32)
    probs[np.arange(len(units)), units] = sure
    return np.log(probs)


def test_a_skipped_blank_still_parts_two_units(graph: Graph) -> None:
    log_probs = spoken(0, 2, 0, 0, 2, 0, 0)
    for blank_skip in (None, 0.9):
        search = GraphSearch(graph, blank_skip=blank_skip)
        state = search.advance(search.start(), log_probs)
        (best,) = search.nbest(state)
        assert best.words == (("c", 0, 2),)
        assert best.times == (1, 4)
    assert len(state.utterance.times) == 3  # two units and the blank between them
    exact = GraphSearch(graph)
    (whole,) = exact.nbest(exact.advance(exact.start(), log_probs))
    assert best.score == pytest.approx(whole.score, abs=1e-3)


def test_nothing_gives_no_word(graph: Graph) -> None:
    search = GraphSearch(graph)
    assert search.nbest(search.start())[0].tokens == ()
    (best,) = search.nbest(search.advance(search.start(), spoken(0, 0)))
    assert best.words == () and best.tokens == ()


def test_a_state_goes_on_once(graph: Graph) -> None:
    search = GraphSearch(graph)
    state = search.start()
    search.advance(state, spoken(1))
    with pytest.raises(ValueError, match="once"):
        search.advance(state, spoken(1))
    with pytest.raises(ModelError, match="not numbers"):
        search.advance(search.start(), np.full((1, 5), math.nan))


def test_words_without_a_lexicon_follow_the_graph(graph: Graph) -> None:
    log_probs = spoken(1, 0, 1, 2)
    search = GraphSearch(Graph(graph.fst, graph.words))
    (best,) = search.nbest(search.advance(search.start(), log_probs))
    assert [text for text, _, _ in best.words] == ["a", "b"]
    assert all(0 <= first <= stop <= 3 for _, first, stop in best.words)


def test_words_are_fitted_to_units() -> None:
    lexicon = make_lexicon([("a", (1,)), ("ab", (1, 2)), ("ab", (1,)), ("b", (2,))], UNITS,
                           boundary=4)  # fmt: skip
    assert fit_words(lexicon, ["ab", "b"], (1, 2)) == [(0, 1), (1, 2)]
    assert fit_words(lexicon, ["ab", "b"], (4, 1, 2, 4, 4, 2, 4)) == [(1, 3), (5, 6)]
    assert fit_words(lexicon, ["a"], (1, 2)) is None
    assert fit_words(lexicon, [], (4,)) == []


def test_what_cannot_be_a_graph(tmp_path: Path, model: NgramModel) -> None:
    files = tmp_path / "TLG.fst", tmp_path / "words.txt"
    lexicon = make_lexicon([("q", (1,))], UNITS)
    with pytest.raises(InputError, match="knows none"):
        build_graph(lexicon, model, *files)
    with pytest.raises(ConfigError, match="lm_weight"):
        build_graph(lexicon, model, *files, lm_weight=0.0)
    with pytest.raises(ModelError, match="no such file"):
        load_graph(*files)
    files[0].write_bytes(b"no graph at all")
    with pytest.raises(ModelError, match="not an FST"):
        load_graph(*files)


def test_damaged_files(tmp_path: Path, model: NgramModel, capfd: pytest.CaptureFixture) -> None:
    files = tmp_path / "TLG.fst", tmp_path / "words.txt"
    build_graph(make_lexicon(ENTRIES, UNITS), model, *files)
    whole = files[0].read_bytes()
    for cut in (5, 40, len(whole) // 2, len(whole) - 3):
        files[0].write_bytes(whole[:cut])
        with pytest.raises(ModelError, match="TLG.fst: cannot be read"):
            load_graph(*files)
    files[0].write_bytes(whole)
    files[1].write_text("<eps> 0\na b c\n", "utf-8")
    with pytest.raises(ModelError, match="words.txt:2"):
        load_graph(*files)
    capfd.readouterr()


def test_without_the_libraries(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, model: NgramModel, tmp_path: Path
) -> None:
    plain = builtins.__import__
    missing = {"kaldi_decoder"}

    def refuse(name: str, *rest: object, **more: object) -> ModuleType:
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return plain(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependency, match=r"kaldi-decoder .*mynah-speech\[lm\]"):
        GraphSearch(graph)
    missing.add("kaldifst")
    lexicon: Lexicon = make_lexicon(ENTRIES, UNITS)
    with pytest.raises(MissingDependency, match=r"kaldifst .*mynah-speech\[lm\]"):
        build_graph(lexicon, model, tmp_path / "a", tmp_path / "b")
