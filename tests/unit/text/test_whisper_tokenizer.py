"""Whisper's special tokens, times and words; the original where it is installed."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from tests import whisper_files as files

from mynah.errors import ConfigError, ModelError
from mynah.text.byte_bpe import Vocabulary, read_vocabulary
from mynah.text.whisper_languages import LANGUAGES, language_code
from mynah.text.whisper_tokenizer import (
    WhisperTokenizer,
    find_tokens,
    load_whisper_tokenizer,
    standard_tokens,
)


@pytest.fixture(scope="module")
def tokenizer() -> WhisperTokenizer:
    return WhisperTokenizer(files.vocabulary(), standard_tokens(300, files.TOKENS))


def test_standard_tokens_of_the_published_models() -> None:
    english = standard_tokens(50256, 51864)
    assert (english.eot, english.sot, english.multilingual) == (50256, 50257, False)
    assert (english.translate, english.transcribe, english.sot_lm) == (50357, 50358, 50359)
    assert (english.sot_prev, english.no_speech, english.no_timestamps) == (50360, 50361, 50362)
    assert english.timestamp_begin == 50363
    first = standard_tokens(50257, 51865)
    assert (first.eot, first.sot, first.languages["en"], first.languages["su"]) == (
        50257,
        50258,
        50259,
        50357,
    )
    assert (first.transcribe, first.no_timestamps, first.timestamp_begin) == (50359, 50363, 50364)
    third = standard_tokens(50257, 51866)
    assert (third.languages["yue"], third.transcribe, third.no_speech) == (50358, 50360, 50363)
    assert (third.timestamp_begin, len(third.languages)) == (50365, 100)


def test_vocabularies_of_another_model_are_refused() -> None:
    for ordinary, size in [(50256, 51865), (50257, 51864), (50256, 51866), (300, 300), (300, 9999)]:
        with pytest.raises(ModelError, match=f"{ordinary} tokens of text does not belong"):
            standard_tokens(ordinary, size)


def test_tokens_that_a_file_names() -> None:
    vocabulary = files.vocabulary()
    specials = files.special_tokens()
    named = find_tokens(replace(vocabulary, specials=specials), files.TOKENS)
    assert named == standard_tokens(300, files.TOKENS)
    del specials["<|nospeech|>"]
    with pytest.raises(ModelError, match=r"no token <\|nospeech\|>"):
        find_tokens(replace(vocabulary, specials=specials), files.TOKENS)
    specials["<|nocaptions|>"] = 309
    assert find_tokens(replace(vocabulary, specials=specials), files.TOKENS) == named
    other = replace(vocabulary, specials={**specials, "<|translate|>": 9999})
    with pytest.raises(ModelError, match="translate: 9999 is not in"):
        find_tokens(other, files.TOKENS)
    only_end = replace(vocabulary, specials={"<|endoftext|>": 300})
    assert find_tokens(only_end, files.TOKENS) == named


def test_sequences(tokenizer: WhisperTokenizer) -> None:
    special = tokenizer.special
    assert tokenizer.sot_sequence("de") == (301, 304, special.transcribe)
    assert tokenizer.sot_sequence("Chinese", "translate", timestamps=False) == (
        301,
        303,
        special.translate,
        special.no_timestamps,
    )
    with pytest.raises(ConfigError, match="missing"):
        tokenizer.sot_sequence()
    with pytest.raises(ConfigError, match="does not know 'fr'"):
        tokenizer.sot_sequence("fr")
    with pytest.raises(ConfigError, match="'germann' is not known.*german"):
        tokenizer.sot_sequence("germann")
    english = WhisperTokenizer(files.vocabulary(), replace(special, multilingual=False))
    assert english.sot_sequence() == english.sot_sequence("en") == (301,)
    assert english.sot_sequence(timestamps=False) == (301, special.no_timestamps)
    for arguments in (("de",), ("en", "translate")):
        with pytest.raises(ConfigError, match="English-only"):
            english.sot_sequence(*arguments)


def test_languages() -> None:
    assert len(LANGUAGES) == 100 and list(LANGUAGES)[-1] == "yue"
    assert language_code("Mandarin") == language_code("ZH") == "zh"
    assert language_code("haitian creole") == "ht"


def test_decoding(tokenizer: WhisperTokenizer) -> None:
    ids = [301, 302, *tokenizer.encode(" the cat"), tokenizer.timestamp(1.08), 310, 300]
    assert tokenizer.decode(ids) == " the cat"
    text = tokenizer.decode_with_timestamps(ids)
    assert text == "<|startoftranscript|><|en|> the cat<|1.08|><|notimestamps|><|endoftext|>"
    assert tokenizer.seconds(tokenizer.timestamp(30.0)) == 30.0
    assert tokenizer.timestamp(99) == tokenizer.vocab_size - 1
    assert tokenizer.timestamp(-1) == tokenizer.special.timestamp_begin
    assert tokenizer.encode("<|en|>") != [302]  # special tokens in a text are text
    assert tokenizer.decode(tokenizer.encode("<|en|>")) == "<|en|>"


def test_words(tokenizer: WhisperTokenizer) -> None:
    ids = tokenizer.encode(" the cat, über 好!")
    words = tokenizer.words(ids)
    assert [word for word, _, _ in words] == [" the", " cat", ",", " über", " 好", "!"]
    assert [first for _, first, _ in words[1:]] == [end for _, _, end in words[:-1]]
    assert [w for w, _, _ in tokenizer.words(tokenizer.encode("你好x"), "zh")] == ["你", "好", "x"]
    mixed = [301, *tokenizer.encode("a"), tokenizer.timestamp(1), *tokenizer.encode("b")]
    assert tokenizer.words(mixed) == [("a", 1, 2), ("b", 3, 4)]
    broken = [*tokenizer.encode("好")[:-1], tokenizer.timestamp(1)]  # ends inside a character
    assert tokenizer.words(broken) == [("\ufffd", 0, len(broken) - 1)]
    assert tokenizer.words([0x80, 0xFF]) == [("\ufffd\ufffd", 0, 2)]


def test_saved_and_loaded(tokenizer: WhisperTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = load_whisper_tokenizer(tmp_path, tokenizer.to_dict())
    for other in (again, pickle.loads(pickle.dumps(tokenizer))):
        assert other.special == tokenizer.special
        assert other.encode(" the cat über") == tokenizer.encode(" the cat über")
    assert (again.sos, again.eos, again.units[302]) == (301, 300, "<|en|>")
    with pytest.raises(ModelError, match="tokenizer.eott: unknown key.*eot"):
        load_whisper_tokenizer(tmp_path, {**tokenizer.to_dict(), "eott": 3})
    with pytest.raises(ModelError, match="'xx' is not known"):
        load_whisper_tokenizer(tmp_path, {**tokenizer.to_dict(), "languages": {"xx": 302}})
    with pytest.raises(ModelError, match="300 tokens, the model has 250"):
        WhisperTokenizer(files.vocabulary(), replace(standard_tokens(200, 1712), vocab_size=250))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(("name", "size"), [("gpt2", 51864), ("multilingual", 51866)])
def test_equal_to_the_original(name: str, size: int) -> None:
    found = importlib.util.find_spec("whisper")
    if found is None or not found.submodule_search_locations:
        pytest.skip("openai-whisper is not installed")
    pytest.importorskip("tiktoken")
    folder = Path(found.submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("original", folder / "tokenizer.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vocabulary = read_vocabulary(folder / "assets" / f"{name}.tiktoken")
    ours = WhisperTokenizer(vocabulary, find_tokens(vocabulary, size))
    multilingual = name == "multilingual"
    languages = 100 if multilingual else 99
    cases = [
        ("en", " I've seen 3 cats: (one), \"two\" and 'three'... naïve café 😀!"),
        ("zh", "你好，世界。今天天气真好 OK 🇩🇪"),
        ("th", "สวัสดีครับ ผมชื่อ"),
        ("de", " Straße -- über 12,5 % – «ja»"),
    ]
    for language, text in cases:
        original = module.get_tokenizer(multilingual, num_languages=languages, language=language)
        assert (ours.special.eot, ours.special.sot) == (original.eot, original.sot)
        assert ours.special.no_speech == original.no_speech
        assert ours.special.timestamp_begin == original.timestamp_begin
        assert ours.non_speech_tokens == original.non_speech_tokens
        if multilingual:
            assert ours.sot_sequence(language) == original.sot_sequence
            codes = dict(
                zip(original.all_language_codes, original.all_language_tokens, strict=True)
            )
            assert ours.special.languages == codes
        ids = original.encode(text)
        assert ours.encode(text) == ids
        words, tokens = original.split_to_word_tokens([*ids, original.eot])
        found_words = ours.words([*ids, original.eot], language if multilingual else "")
        assert [w for w, _, _ in found_words] == words[:-1]
        assert [ids[a:b] for _, a, b in found_words] == tokens[:-1]
        timed = [original.timestamp_begin, *ids, original.timestamp_begin + 54]
        assert ours.decode_with_timestamps(timed) == original.decode_with_timestamps(timed)
        assert ours.decode(timed) == original.decode(timed)


def test_special_tokens_beyond_the_times() -> None:
    vocabulary = Vocabulary(files.vocabulary().tokens, (), files.special_tokens())
    tokenizer = WhisperTokenizer(vocabulary, find_tokens(vocabulary, files.TOKENS + 2))
    assert tokenizer.decode([97, files.TOKENS + 1]) == "a"
    assert tokenizer.decode_with_timestamps([files.TOKENS]) == f"<|extra{files.TOKENS}|>"
