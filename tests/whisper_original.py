"""openai-whisper with the tiny random models of the tests and their small vocabulary."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests import whisper_files as files

from mynah.runtime.whisper.config import WhisperDims
from mynah.text.whisper_tokenizer import WhisperTokenizer, find_tokens

_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's


def original(monkeypatch: pytest.MonkeyPatch, dims: WhisperDims, tensors: files.Weights) -> Any:
    """openai-whisper's model with these tensors; its programs then use the small vocabulary."""
    whisper = pytest.importorskip("whisper")
    tiktoken = pytest.importorskip("tiktoken")
    torch = pytest.importorskip("torch")
    from whisper.tokenizer import Tokenizer

    encoding = tiktoken.Encoding(
        "small",
        pat_str=_SPLIT,
        mergeable_ranks={token: rank for rank, token in enumerate(files.vocabulary().tokens)},
        special_tokens=files.special_tokens(),
    )

    vocabulary = files.vocabulary()
    ours = WhisperTokenizer(vocabulary, find_tokens(vocabulary, dims.n_vocab))

    def tokenizer(multilingual: bool, *, language: Any = None, task: Any = None, **_: Any) -> Any:
        made = Tokenizer(encoding, len(files.LANGUAGES), language or "en", task or "transcribe")
        languages = [made.special_tokens[f"<|{code}|>"] for code in files.LANGUAGES]
        task_token = made.translate if task == "translate" else made.transcribe
        language_token = made.special_tokens[f"<|{language or 'en'}|>"]
        made.sot_sequence = (made.sot, language_token, task_token)
        # the original's rule takes the plain space for a sign where " -" is no token of its own
        made.__dict__["non_speech_tokens"] = ours.non_speech_tokens
        made.__dict__["all_language_tokens"] = tuple(languages)
        made.__dict__["all_language_codes"] = files.LANGUAGES
        return made

    monkeypatch.setattr("whisper.decoding.get_tokenizer", tokenizer)
    import sys

    monkeypatch.setattr(sys.modules["whisper.transcribe"], "get_tokenizer", tokenizer)
    monkeypatch.setattr(whisper.model.Whisper, "is_multilingual", property(lambda _: True))
    monkeypatch.setattr(whisper.model.Whisper, "num_languages", property(lambda _: 3))
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dataclasses.asdict(dims)))
    model.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in tensors.items()})
    return model.eval()
