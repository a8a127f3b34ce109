"""The tasks that the loop trains, by the name that a recipe gives as ``task.kind``."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "ctc_attention": "mynah.training.tasks.ctc_attention",
    "lm": "mynah.training.tasks.lm",
    "punctuation": "mynah.training.tasks.punctuation",
    "vad": "mynah.training.tasks.vad",
    "whisper": "mynah.training.tasks.whisper",
}
