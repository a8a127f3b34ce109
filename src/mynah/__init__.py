"""mynah hears, learns, speaks and changes voices.

``import mynah`` loads nothing heavy: the names below are imported when they are first used.
"""

from __future__ import annotations

import importlib

from mynah.errors import ConfigError, InputError, MissingDependency, ModelError, MynahError

TYPE_CHECKING = False  # not typing's, which costs more to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from mynah.decoding import DecodingOptions, Hotwords
    from mynah.runtime.endpoint import Endpointing
    from mynah.runtime.offline import Cancelled
    from mynah.runtime.recognizer import Recognizer, load
    from mynah.runtime.request import Request
    from mynah.runtime.result import Segment, Transcript, Word
    from mynah.runtime.session import Endpoint, Event, Final, Partial, Session

__version__ = "0.1.0"

_LAZY = {
    **dict.fromkeys(("Event", "Partial", "Final", "Endpoint"), "mynah.runtime.session"),
    **dict.fromkeys(("Segment", "Word"), "mynah.runtime.result"),
    **dict.fromkeys(("DecodingOptions", "Hotwords"), "mynah.decoding"),
    "load": "mynah.runtime.recognizer",
    "Cancelled": "mynah.runtime.offline",
    "Endpointing": "mynah.runtime.endpoint",
    "Recognizer": "mynah.runtime.recognizer",
    "Request": "mynah.runtime.request",
    "Session": "mynah.runtime.session",
    "Transcript": "mynah.runtime.result",
}

__all__ = [
    "load",
    "Recognizer",
    "Request",
    "DecodingOptions",
    "Hotwords",
    "Endpointing",
    "Cancelled",
    "Session",
    "Event",
    "Partial",
    "Final",
    "Endpoint",
    "Transcript",
    "Segment",
    "Word",
    "MynahError",
    "InputError",
    "ModelError",
    "ConfigError",
    "MissingDependency",
]


_ROOMS = ("audio", "text", "corpus", "decoding", "runtime", "evaluation")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"mynah.{name}")
    raise AttributeError(f"module 'mynah' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_ROOMS])
