"""A model folder with a lexicon and what goes with it, from a table or a list of words."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mynah.config import as_dict, build, override
from mynah.decoding.graph import load_graph
from mynah.decoding.graph_build import build_graph
from mynah.decoding.lexicon import Entry, Lexicon, make_lexicon, read_lines, read_table
from mynah.decoding.lexicon_file import save_lexicon
from mynah.decoding.ngram import NgramModel, load_ngram, save_ngram
from mynah.decoding.options import DecodingOptions
from mynah.errors import ConfigError, InputError, ModelError
from mynah.model_folder import ModelFolder, write_model_file, write_model_folder
from mynah.runtime.lexicon import GRAPH, GRAPH_WORDS, LEXICON, NGRAM, RESCORER, SPELLING
from mynah.runtime.rescorer import PRECISIONS, Rescorer
from mynah.runtime.spelling import Speller
from mynah.text import Tokenizer, load_tokenizer

SPACES = ("▁", "<space>", "|")  # units that stand between words, where a model has one


@dataclass(frozen=True)
class Added:
    """What a folder was given."""

    words: int
    spellings: int
    unknown_words: int  # of them, that the language model does not know
    arcs: int  # of the graph; 0 without one


def add_lexicon(
    source: ModelFolder,
    target: str | Path,
    *,
    table: str | Path | None = None,
    words: str | Path | None = None,
    ngram: str | Path | None = None,
    spelling: str | Path | None = None,
    graph: bool = False,
    boundary: str | None = None,
    settings: Sequence[str] = (),
) -> Added:
    """Write ``target``: the folder ``source`` with a lexicon, which is then searched by default.

    Args:
        source: the model; a lexicon that it has is replaced.
        target: the folder to write; may be that of ``source``.
        table: a file of lines word, tab, units.
        words: a file of words, one a line, that the tokenizer spells; instead of ``table``.
        ngram: a language model of words, ARPA or our own; without table and words, those that it
            knows and the tokenizer can spell are the lexicon.
        spelling: a model of graphones in our own format, for words that the lexicon has not.
        graph: compile both to a graph as well, which ``method=graph`` searches.
        boundary: the unit between words; ``""``: none; None: a space, where the model has one.
        settings: ``key=value`` of decoding options that the model is to have by default.

    Raises:
        InputError: a file cannot be used, or both table and words are given, or nothing is.
        ConfigError: a setting or the boundary is wrong, or a graph without a language model.
        ModelError: a part of ``source`` is missing or altered.
        MissingDependency: a graph without kaldifst.
    """
    if table is not None and words is not None:
        raise InputError("lexicon: give either a table or a list of words")
    if table is None and words is None and ngram is None:
        raise InputError("lexicon: give a table, a list of words or a language model")
    if graph and ngram is None:
        raise ConfigError("graph: needs a language model")
    tokenizer = load_tokenizer(source.part("tokenizer"), source.info.tokenizer)
    model = None if ngram is None else load_ngram(ngram)
    entries = _entries(tokenizer, table, words, model)
    lexicon = make_lexicon(entries, tokenizer.units, boundary=_boundary(tokenizer, boundary))
    unknown, arcs = 0, 0
    if model is not None:
        lexicon = with_unigrams(lexicon, model)
        unknown = sum(word not in model.vocab for word in lexicon.words)
    info = dataclasses.replace(source.info, decoding=_decoding(source.info.decoding, settings))
    with write_model_folder(target, info) as work:
        _copy_parts(source, work, keep=lambda name: not _replaced(name))
        (work / LEXICON).parent.mkdir(exist_ok=True)
        save_lexicon(lexicon, work / LEXICON)
        if model is not None and Path(ngram or "").suffix == ".ngram":
            shutil.copyfile(ngram or "", work / NGRAM)
        elif model is not None:
            save_ngram(model.trie, work / NGRAM)
        _copy_spelling(spelling, work)
        if graph and model is not None:
            arcs = _compile(lexicon, model, work, tokenizer, info.decoding)
    return Added(len(lexicon.words), len(lexicon.spellings), unknown, arcs)


def add_graph(
    source: ModelFolder,
    target: str | Path,
    fst: str | Path,
    words: str | Path,
    *,
    settings: Sequence[str] = (),
) -> None:
    """Write ``target``: the folder ``source`` with a TLG graph of WeNet, searched by default.

    Raises:
        ModelError: a file is missing or no graph, or a part of ``source`` is altered.
        ConfigError: a setting is wrong.
        MissingDependency: kaldifst is not installed.
    """
    load_graph(fst, words)
    decoding = _decoding(source.info.decoding, settings, "graph")
    with write_model_folder(target, dataclasses.replace(source.info, decoding=decoding)) as work:
        _copy_parts(source, work, keep=lambda name: not _replaced(name))
        (work / GRAPH).parent.mkdir(exist_ok=True)
        shutil.copyfile(fst, work / GRAPH)
        shutil.copyfile(words, work / GRAPH_WORDS)


def add_words_of(
    source: ModelFolder, target: str | Path, other: ModelFolder, *, settings: Sequence[str] = ()
) -> None:
    """Write ``target``: the folder ``source`` with the lexicon, the language models and the options
    of ``other``, whose units are the same.

    Raises:
        ModelError: ``other`` has no lexicon or other units, or a part of either is missing or
            altered.
        ConfigError: a setting is wrong.
    """
    if not other.has(LEXICON):
        raise ModelError(f"{other.path}: has no lexicon")
    ours, theirs = (
        load_tokenizer(one.part("tokenizer"), one.info.tokenizer).units for one in (source, other)
    )
    if ours != theirs:
        raise ModelError(f"{other.path}: has other units than {source.path}")
    decoding = _decoding(other.info.decoding, settings)
    streaming = dict(source.info.streaming)
    if "chunk" in streaming and "second_look" in other.info.streaming:
        streaming["second_look"] = other.info.streaming["second_look"]
    info = dataclasses.replace(source.info, decoding=decoding, streaming=streaming)
    with write_model_folder(target, info) as work:
        _copy_parts(source, work, keep=lambda name: not name.startswith("lm/"))
        _copy_parts(other, work, keep=lambda name: name.startswith("lm/"))


def add_rescorer(
    source: ModelFolder, target: str | Path, rescorer: ModelFolder, *, settings: Sequence[str] = ()
) -> int:
    """Write ``target``: the folder ``source``, which has a lexicon, with the neural language model
    ``rescorer`` that ranks what is found; gives the bytes that it takes.

    Its int8 graph is taken where there is one, else that in fp32.

    Raises:
        ModelError: ``source`` has no lexicon, ``rescorer`` is no language model or has no graph, or
            a part of either is missing or altered.
        ConfigError: a setting is wrong.
    """
    if not source.has(LEXICON):
        raise ModelError(f"{source.path}: has no lexicon, whose words a rescorer could rank")
    graphs = [f"onnx/lm.{p}.onnx" for p in PRECISIONS if rescorer.has(f"onnx/lm.{p}.onnx")]
    if not graphs and rescorer.has("weights.safetensors"):
        raise ModelError(f"{rescorer.path}: has no graph; mynah export makes one")
    Rescorer(rescorer)  # refuse what is none
    decoding = _decoding(source.info.decoding, settings)
    with write_model_folder(target, dataclasses.replace(source.info, decoding=decoding)) as work:
        _copy_parts(source, work, keep=lambda name: not name.startswith(f"{RESCORER}/"))
        inner, needed = work / RESCORER, ("CARD.md", graphs[0])
        _copy_parts(rescorer, inner, keep=lambda n: n.startswith("tokenizer/") or n in needed)
        write_model_file(inner, rescorer.info)
        return sum(path.stat().st_size for path in inner.rglob("*") if path.is_file())


def _copy_spelling(spelling: str | Path | None, work: Path) -> None:
    if spelling is not None:
        Speller(load_ngram(spelling))  # refuse what is none
        shutil.copyfile(spelling, work / SPELLING)


def _replaced(name: str) -> bool:
    """Whether a lexicon or a graph replaces a file."""
    return name in (LEXICON, NGRAM, SPELLING, GRAPH, GRAPH_WORDS)


def _copy_parts(source: ModelFolder, work: Path, keep: Callable[[str], bool]) -> None:
    for name in source.files:
        if keep(name):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.file(name), work / name)


def spell_file(path: str | Path, tokenizer: Tokenizer) -> list[Entry]:
    """The words of a file, one a line, as the tokenizer spells them.

    Raises:
        InputError: the file cannot be read, or a word not be spelled.
    """
    entries: list[Entry] = []
    for number, word in read_lines(path):
        found = spellings(word, tokenizer)
        if not found:
            raise InputError(f"{path}:{number}: the model's units cannot write {word!r}")
        entries.extend((word, units) for units in found)
    return entries


def spellings(word: str, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
    """The units of a word: all ways to say it, from a tokenizer of phones; none where the units
    cannot write it."""
    if word.startswith("<") and word.endswith(">"):  # <unk>, <s> and their like
        return []
    several: Any = getattr(tokenizer, "pronunciations", None)
    if several is None:
        units = tuple(tokenizer.encode(word))
        back = tokenizer.decode(list(units)) if tokenizer.unk not in units else ""
        return [units] if units and back.casefold() == word.casefold() else []
    ids = {unit: index for index, unit in enumerate(tokenizer.units) if unit}
    found = (tuple(ids[phone] for phone in phones) for phones in several(word))
    return [units for units in found if units]


def with_unigrams(lexicon: Lexicon, model: NgramModel) -> Lexicon:
    """The lexicon with what ``model`` says of each word alone, for the look-ahead."""
    ids = np.array([model.word_id(word) for word in lexicon.words])
    scores = model.score_many(model.null(), ids).tolist()
    return lexicon.with_costs(dict(zip(lexicon.words, scores, strict=True)).__getitem__)


def _entries(
    tokenizer: Tokenizer,
    table: str | Path | None,
    words: str | Path | None,
    model: NgramModel | None,
) -> list[Entry]:
    if table is not None:
        return read_table(table, tokenizer.units)
    if words is not None:
        return spell_file(words, tokenizer)
    known = () if model is None else model.vocab
    return [(word, units) for word in known for units in spellings(word, tokenizer)]


def _compile(
    lexicon: Lexicon, model: NgramModel, work: Path, tokenizer: Tokenizer, decoding: dict[str, Any]
) -> int:
    """Write the graph into ``work``; how many arcs it has."""
    options = build(DecodingOptions, decoding, "decoding")
    _, arcs = build_graph(
        lexicon,
        model,
        work / GRAPH,
        work / GRAPH_WORDS,
        blank=tokenizer.blank,
        lm_weight=options.lm_weight,
        word_bonus=options.word_bonus,
    )
    return arcs


def _boundary(tokenizer: Tokenizer, wanted: str | None) -> int | None:
    if wanted is None:
        spaces = (unit for unit in SPACES if unit in tokenizer.units)
        wanted = next(spaces, "")
    if not wanted:
        return None
    if wanted not in tokenizer.units:
        raise ConfigError(f"boundary: the model has no unit {wanted!r}")
    return tokenizer.units.index(wanted)


def _decoding(
    decoding: dict[str, Any], settings: Sequence[str], method: str = "lexicon"
) -> dict[str, Any]:
    """The decoding table of the model, with what a lexicon needs and what was asked for."""
    values = {"lm_weight": 1.0, "top_units": 20, **decoding, "method": method}
    if method == "graph":
        values |= {"tokens": 7000, "margin": 15.0, "blank_skip": 0.98}  # WeNet's
    try:
        asked = override({}, settings)
        options = as_dict(build(DecodingOptions, {**values, **asked}))
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from None
    return {key: value for key, value in options.items() if key in values or key in asked}
