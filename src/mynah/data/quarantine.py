"""The file of what was left out: a JSON line an entry, each once, whoever finds it how often."""

from __future__ import annotations

import json
from pathlib import Path


class QuarantineFile:
    """A file that several processes append to, in this run and in those that go on with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[tuple[str, str]] = set()
        self._read = 0  # bytes

    def add(self, name: str, reason: str) -> None:
        """Write an entry that is not there yet."""
        torn = self._catch_up()
        if (name, reason) in self._known:
            return
        line = json.dumps({"id": name, "reason": reason}, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            stream.write(b"\n" * torn + line.encode("utf-8"))

    def _catch_up(self) -> bool:
        """Take in what is new; whether it ends in the middle of a line, as a kill leaves it."""
        if not self.path.is_file():
            self._read = 0
            return False
        with self.path.open("rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._known.add((str(entry["id"]), str(entry["reason"])))
            except (ValueError, KeyError, TypeError):
                continue
        return len(whole) < len(new)
