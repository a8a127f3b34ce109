"""Writing manifests: TSV and JSON lines, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mynah.whole import whole_text

COLUMNS = ("id", "path", "speaker", "duration", "text")  # always there, and first


def write_tsv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as a TSV manifest and return how many; tabs and newlines become spaces.

    The header is the union of the rows' columns. Nested values have no place in a TSV and are
    left out.

    Raises:
        InputError: it cannot be written.
    """
    kept = [{k: v for k, v in r.items() if not isinstance(v, (list, dict))} for r in rows]
    columns = list(dict.fromkeys((*COLUMNS, *(c for row in kept for c in row))))
    with whole_text(path) as stream:
        stream.write("\t".join(columns) + "\n")
        for row in kept:
            stream.write("\t".join(cell(row.get(c)) for c in columns) + "\n")
    return len(kept)


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines and return how many.

    Raises:
        InputError: it cannot be written.
    """
    count = 0
    with whole_text(path) as stream:
        for row in rows:
            kept = {k: v for k, v in row.items() if v is not None}
            stream.write(json.dumps(kept, ensure_ascii=False) + "\n")
            count += 1
    return count


def cell(value: Any) -> str:
    """A value as a cell of a TSV."""
    if value is None:
        return ""
    text = f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return " ".join(text.split()) if any(c in text for c in "\t\r\n") else text
