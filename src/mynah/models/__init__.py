"""Model families, a folder each. A family's name comes from outside, from ``model.toml``."""

from __future__ import annotations

FAMILIES: dict[str, str] = {
    "lm": "mynah.models.lm.model",
    "punctuation": "mynah.models.punctuation.model",
    "u2": "mynah.models.u2.model",
    "vad": "mynah.models.vad.model",
    "whisper": "mynah.models.whisper.model",
}
