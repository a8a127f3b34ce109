"""Chinese in simplified or in traditional characters, by OpenCC (extra ``text``).

A recogniser that learned from both writes both, at times within a sentence. What is in the wanted
characters already stays; some characters depend on the word that they stand in (后 and 後).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, get_args

from mynah.errors import ConfigError, MissingDependency

Script = Literal["simplified", "traditional", "taiwan", "hongkong"]
SCRIPTS: tuple[Script, ...] = get_args(Script)

# OpenCC's names. From traditional by way of Taiwan's: it has more variants than the standard.
_CONFIGS = {"simplified": "tw2s", "traditional": "s2t", "taiwan": "s2tw", "hongkong": "s2hk"}
_CHINESE = ("zh", "cmn", "yue", "wuu", "nan", "hak")


def is_chinese(language: str) -> bool:
    """Whether ``language`` (``zh``, ``zh-TW``, ``yue`` …) is written in Chinese characters."""
    return language.lower().replace("_", "-").split("-")[0] in _CHINESE


class ScriptConverter:
    """Rewrites Chinese in one of ``SCRIPTS``; may be used from several threads.

    Raises:
        ConfigError: there is no such script.
        MissingDependency: OpenCC is not installed.
    """

    def __init__(self, script: Script) -> None:
        if script not in _CONFIGS:
            raise ConfigError(f"script: {script!r} is none of {', '.join(SCRIPTS)}")
        self.script = script
        self._converter = _converter(_CONFIGS[script])

    def __call__(self, text: str) -> str:
        """``text`` rewritten."""
        return str(self._converter.convert(text))

    def words(self, words: Sequence[str]) -> list[str]:
        """The words of a text, rewritten as they stand there."""
        whole = self("".join(words))
        if len(whole) != sum(map(len, words)):
            return [self(word) for word in words]
        result, at = [], 0
        for word in words:
            result.append(whole[at : at + len(word)])
            at += len(word)
        return result


@lru_cache
def _converter(name: str) -> Any:
    try:
        import opencc
    except ImportError:
        raise MissingDependency("opencc", extra="text") from None
    # by its place: a bare name is looked for in the working directory first
    path = os.path.join(os.path.dirname(opencc.__file__), "clib", "share", "opencc", f"{name}.json")
    return opencc.OpenCC(path if os.path.isfile(path) else name)
