"""Tokenizers from a folder, from texts, and from WeNet's files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mynah.config import build
from mynah.errors import ConfigError, InputError, MissingDependency, ModelError
from mynah.text.characters import HANZI, SPACE
from mynah.text.phones import PhoneTokenizer
from mynah.text.sentencepiece_model import SentencePieceModel
from mynah.text.tokenizer import (
    BLANK,
    BPE_FILE,
    SOS_EOS,
    UNITS_FILE,
    UNK,
    Tokenizer,
    TokenizerConfig,
    UnitTokenizer,
    read_units,
)
from mynah.text.whisper_tokenizer import load_whisper_tokenizer

_Case = Literal["keep", "lower", "upper"]


def load_tokenizer(folder: str | Path, values: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer in ``folder``: ``units.txt``, and a BPE model or a dictionary of sounds; or
    that of a Whisper model.

    ``values`` is the table ``[tokenizer]`` of ``model.toml``: see :class:`TokenizerConfig`, and for
    the kind ``whisper`` :class:`mynah.text.whisper_tokenizer.WhisperTokens`.

    Raises:
        ModelError: a file is missing or malformed, or ``values`` is wrong.
    """
    folder = Path(folder)
    if values.get("kind") == "whisper":
        return load_whisper_tokenizer(folder, values)
    try:
        config = build(TokenizerConfig, values, "tokenizer")
    except ConfigError as error:
        raise ModelError(f"{folder}: {error}") from None
    units = read_units(folder / UNITS_FILE)
    if config.kind == "phone":
        return PhoneTokenizer(folder, units, config)
    bpe = _read_bytes(folder / config.bpe_model) if config.bpe_model else None
    return UnitTokenizer(units, config, bpe)


def wenet_tokenizer(
    units: str | Path,
    *,
    bpe_model: str | Path | None = None,
    non_lang_syms: str | Path | Sequence[str] | None = None,
    split_with_space: bool = False,
    connect_symbol: str = "",
    special_tokens: Mapping[str, int] | None = None,
) -> UnitTokenizer:
    """The tokenizer that WeNet makes from the same files and settings.

    Two things are done better: where the table has ``<space>`` and not ▁, it stands for a space
    (WeNet gives ``<unk>``), and two spaces between words make no empty word.

    A BPE model or a list of non-language symbols (a file, or the symbols) makes texts upper case.
    ``special_tokens`` may name its keys ``<sos>``, ``sos`` or ``<s>``. Where no token is named,
    WeNet starts and ends with the last unit, whatever it is.

    Raises:
        ModelError: a file is missing or malformed, or a symbol has not the form {X}, <X> or [X].
    """
    symbols = _read_symbols(non_lang_syms)
    upper = bpe_model is not None or non_lang_syms is not None
    table = read_units(units)
    bpe = None if bpe_model is None else _read_bytes(Path(bpe_model))
    if bpe is not None:
        SentencePieceModel(bpe)  # refuse a damaged one now
    try:
        config = TokenizerConfig(
            kind="units",
            case="upper" if upper else "keep",
            split_with_space=split_with_space and bpe is None,
            connect_symbol=connect_symbol if bpe is None else "",
            non_lang_syms=symbols,
            bpe_model="" if bpe is None else BPE_FILE,
            special_tokens=_special_tokens(special_tokens or {}, len(table)),
        )
    except ConfigError as error:
        raise ModelError(str(error)) from None
    return UnitTokenizer(table, config, bpe)


def char_tokenizer(
    texts: Iterable[str], *, language: str = "", case: _Case = "keep", min_count: int = 1
) -> UnitTokenizer:
    """A tokenizer of the characters that occur at least ``min_count`` times in ``texts``.

    Units: ``<blank>``, ``<unk>``, the characters in the order of their code points with ▁ for the
    space, ``<sos/eos>``.

    Raises:
        InputError: there is no text.
    """
    shape = UnitTokenizer((BLANK, UNK, SOS_EOS), TokenizerConfig(language=language, case=case))
    counts = Counter(char for text in texts for char in shape.pieces(text) if not char.isspace())
    chars = sorted(char for char, count in counts.items() if count >= min_count)
    if not chars:
        raise InputError("no text to make a tokenizer from")
    return UnitTokenizer((BLANK, UNK, *chars, SOS_EOS), shape.config)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    model_type: Literal["unigram", "bpe"] = "unigram",
    *,
    language: str = "",
    case: _Case = "keep",
    character_coverage: float = 1.0,
    user_symbols: Sequence[str] = (),
) -> UnitTokenizer:
    """Train sentencepiece in this process and make a tokenizer of ``vocab_size`` units.

    Hanzi are never joined: each that occurs is a unit, and the model is trained on the rest. Units:
    ``<blank>``, ``<unk>``, hanzi, pieces, ``<sos/eos>``. A unigram model may end smaller than asked
    when the texts do not have so many pieces. The same texts give the same model.

    Raises:
        ConfigError: a user symbol holds white space, which a table of units cannot.
        InputError: no text, or too little of it for ``vocab_size``.
        MissingDependency: sentencepiece is not installed.
    """
    try:
        import sentencepiece
    except ImportError:
        raise MissingDependency("sentencepiece", extra="train") from None
    for symbol in user_symbols:
        if len(symbol.split()) != 1 or symbol != symbol.strip():
            raise ConfigError(f"user_symbols: {symbol!r} is empty or holds white space")
    shape = UnitTokenizer((BLANK, UNK, SOS_EOS), TokenizerConfig(language=language, case=case))
    hanzi: set[str] = set()
    sentences = list(_sentences(texts, shape, hanzi))
    if not sentences:
        raise InputError("no text to train a tokenizer from (hanzi alone need no BPE: use char)")
    stream = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=stream,
            vocab_size=vocab_size - 2 - len(hanzi),
            model_type=model_type,
            character_coverage=character_coverage,
            # the scoring form is normal already, and the tables would be most of the model
            normalization_rule_name="identity" if language else "nmt_nfkc",
            user_defined_symbols=list(user_symbols),
            hard_vocab_limit=model_type == "bpe",
            bos_id=-1,
            eos_id=-1,
            num_threads=4,  # fixed: the sums, and so the model, depend on it
            max_sentence_length=100_000,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].split("] ")[-1]
        raise InputError(f"{vocab_size} units cannot be trained on these texts: {reason}") from None
    model = SentencePieceModel(stream.getvalue())
    pieces = [p for i, p in enumerate(model.pieces) if i != model.unknown]
    config = replace(shape.config, kind="bpe", bpe_model=BPE_FILE)
    return UnitTokenizer((BLANK, UNK, *sorted(hanzi), *pieces, SOS_EOS), config, stream.getvalue())


def _sentences(texts: Iterable[str], shape: UnitTokenizer, hanzi: set[str]) -> Iterator[str]:
    for text in texts:
        # split() also takes U+0085, which sentencepiece would keep as a piece.
        line = " ".join("".join(shape.pieces(text)).replace(SPACE, " ").split())
        hanzi.update(HANZI.findall(line))
        yield from (part for part in HANZI.split(line) if part.strip())


def _special_tokens(values: Mapping[str, int], size: int) -> dict[str, int]:
    names = {"blank": BLANK, "unk": UNK, "sos": "<sos>", "eos": "<eos>"}
    names |= {"<s>": "<sos>", "</s>": "<eos>"}
    names |= {name: name for name in (BLANK, UNK, "<sos>", "<eos>")}
    known = {names[key]: int(value) for key, value in values.items() if key in names}
    return {"<sos>": size - 1, "<eos>": size - 1} | known


def _read_symbols(source: str | Path | Sequence[str] | None) -> tuple[str, ...]:
    if source is None:
        return ()
    if not isinstance(source, (str, Path)):
        return tuple(source)
    lines = _read_bytes(Path(source)).decode("utf-8", "replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
