"""The words of a model: its lexicon, language model and graph, read when they are first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from mynah.decoding.hotwords import Hotwords
from mynah.decoding.lexicon import Lexicon, check_units
from mynah.decoding.lexicon_file import load_lexicon
from mynah.decoding.lexicon_scores import WordModel, WordScorer
from mynah.decoding.lexicon_search import LexiconSearch, Spell
from mynah.decoding.ngram import NgramModel, load_ngram
from mynah.decoding.options import DecodingOptions
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import MODEL_FILE, ModelFolder, read_model_folder
from mynah.runtime.rescorer import Rescorer
from mynah.runtime.spelling import Speller
from mynah.text import Tokenizer

if TYPE_CHECKING:
    from mynah.decoding.graph import Graph, GraphSearch

LEXICON, NGRAM = "lm/lexicon.bin", "lm/words.ngram"
SPELLING = "lm/spelling.ngram"
RESCORER = "lm/rescorer"  # a model folder of its own
GRAPH, GRAPH_WORDS = "lm/TLG.fst", "lm/words.txt"

_Part = TypeVar("_Part")


class WordParts:
    """What a model folder holds under ``lm/``; may be used from several threads."""

    def __init__(self, folder: ModelFolder, tokenizer: Tokenizer) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._lock = threading.Lock()
        self._parts: dict[str, object] = {}

    def has(self, name: str) -> bool:
        """Whether the folder lists a part such as ``LEXICON``."""
        return self._folder.has(name)

    @property
    def lexicon(self) -> Lexicon:
        """The lexicon, verified.

        Raises:
            ModelError: there is none, it is damaged, or it was made for other units.
        """
        return self._part(LEXICON, self._read_lexicon)

    @property
    def ngram(self) -> NgramModel | None:
        """The language model of its words; None where there is none.

        Raises:
            ModelError: it is damaged.
        """
        if not self.has(NGRAM):
            return None
        return self._part(NGRAM, lambda: load_ngram(self._folder.file(NGRAM)))

    @property
    def spelling(self) -> Speller | None:
        """What writes words by their phones; None where the model has none.

        Raises:
            ModelError: it is damaged.
        """
        if not self.has(SPELLING):
            return None
        return self._part(SPELLING, lambda: Speller(load_ngram(self._folder.file(SPELLING))))

    @property
    def rescorer(self) -> Rescorer | None:
        """What ranks the hypotheses of a search; None where the model has none.

        Raises:
            ModelError: it is damaged.
        """
        name = f"{RESCORER}/{MODEL_FILE}"
        if not self.has(name):
            return None

        def read() -> Rescorer:
            return Rescorer(read_model_folder(self._folder.file(name).parent))

        return self._part(RESCORER, read)

    @property
    def graph(self) -> Graph:
        """The decoding graph.

        Raises:
            ModelError: there is none, or it is damaged.
            MissingDependency: the libraries that read it are not installed.
        """
        from mynah.decoding.graph import load_graph

        lexicon = self.lexicon if self.has(LEXICON) else None
        file = self._folder.file
        return self._part(GRAPH, lambda: load_graph(file(GRAPH), file(GRAPH_WORDS), lexicon))

    def _part(self, name: str, read: Callable[[], _Part]) -> _Part:
        with self._lock:
            if name not in self._parts:
                self._parts[name] = read()
            return cast(_Part, self._parts[name])

    def _read_lexicon(self) -> Lexicon:
        path = self._folder.file(LEXICON)
        lexicon = load_lexicon(path)
        if lexicon.vocab_check != check_units(self._tokenizer.units):
            raise ModelError(f"{path}: made for other units than those of the model")
        _ = lexicon.tree  # grown once, while nobody else waits for a part of it
        return lexicon


def lexicon_search(
    parts: WordParts,
    tokenizer: Tokenizer,
    options: DecodingOptions,
    *,
    hotwords: Hotwords | None = None,
    lm: WordModel | None = None,
) -> LexiconSearch:
    """The search for the words of a lexicon; ``lm`` takes the place of the model's own."""
    scorers: tuple[WordScorer, ...] = ()
    if hotwords:
        scorers = (hotwords.word_scorer(tokenizer, options.hotword_cap),)
    return LexiconSearch(
        parts.lexicon,
        parts.ngram if lm is None else lm,
        scorers,
        beam=options.tokens,
        margin=options.margin,
        top_units=max(options.top_units, 1),
        lm_weight=options.lm_weight,
        word_bonus=options.word_bonus,
        lm_unknown=options.lm_unknown,
        unknown=options.unknown_word,
        unknown_unit=options.unknown_unit,
        spell=speller(parts, tokenizer) if options.unknown_word is not None else None,
        blank=tokenizer.blank,
        blank_penalty=options.blank_penalty,
        blank_skip=options.blank_skip,
        nbest_limit=options.beam,
    )


def graph_search(
    parts: WordParts,
    tokenizer: Tokenizer,
    options: DecodingOptions,
    *,
    hotwords: Hotwords | None = None,
    lm: WordModel | None = None,
) -> GraphSearch:
    """The search in a compiled graph, whose weights are what they are.

    Raises:
        ConfigError: it takes neither hotwords nor another language model.
    """
    from mynah.decoding.graph import GraphSearch

    for name, given in (("hotwords", hotwords or None), ("language model", lm)):
        if given is not None:
            raise ConfigError(f"method: a graph takes no {name}; use lexicon or prefix_beam")
    return GraphSearch(
        parts.graph,
        blank=tokenizer.blank,
        tokens=options.tokens,
        margin=options.margin,
        blank_penalty=options.blank_penalty,
        blank_skip=options.blank_skip,
    )


def speller(parts: WordParts, tokenizer: Tokenizer) -> Spell | None:
    """What writes the units of an unknown word: a tokenizer whose units are letters, or the
    model's own speller of phones. Without one the word stays ``<unk>``."""
    if tokenizer.to_dict().get("kind") != "phone":
        return lambda units: (tokenizer.decode(list(units)), 1.0)
    spelling = parts.spelling
    if spelling is None:
        return None

    def spell(units: tuple[int, ...]) -> tuple[str, float]:
        ways = spelling([tokenizer.units[unit] for unit in units])
        return ways[0] if ways else ("", 0.0)

    return spell
