"""Journals: what was decoded is there again, exactly; what is torn or of other work is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mynah.errors import InputError
from mynah.runtime.journal import Journal, journal_path, recording_key
from mynah.runtime.result import Segment, Word

KEY = {"recording": "a.wav", "how": "x"}
WORDS = (Word("één", 0.1, 1 / 3, np.float64(0.7), "aligned", ((0.1, 0.2), (0.2, 1 / 3))),
         Word("二", 1 / 3, 2.0, None, "interpolated"))  # fmt: skip
SEGMENTS = (Segment("één 二", 0.1, 2.0, 1e-17, WORDS), Segment("x", 2.0, 3.0, None))


def filled(path: Path, windows: int = 3) -> Journal:
    journal = Journal(path, KEY)
    for number in range(windows):
        journal.add(number * 10, number * 10 + 9, SEGMENTS if number else ())
    journal.close()
    return journal


def test_what_was_kept_is_there_again_exactly(tmp_path: Path) -> None:
    filled(tmp_path / "deep" / "j")
    again = Journal(tmp_path / "deep" / "j", KEY)
    assert len(again) == 3
    assert (again.get(0, 9), again.get(10, 19)) == ((), SEGMENTS)
    assert again.get(10, 18) is None
    again.add(30, 39, SEGMENTS)
    again.close()
    assert len(Journal(tmp_path / "deep" / "j", KEY)) == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limits of files here")
def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    import resource

    journal = Journal(tmp_path / "j", KEY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(InputError, match="j: cannot be written"):
            for number in range(9):
                journal.add(number, number + 1, SEGMENTS)
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_of_something_else_is_as_good_as_none(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    for line in (b'{"a": 1, "b": 2, "c": 3}', b"[0, 1, " + b"[" * 5000, b"[0, 1, [[]]]"):
        (tmp_path / "j").write_bytes(whole + line + b"\n")
        assert len(Journal(tmp_path / "j", KEY)) == 3


def test_nothing_is_written_before_there_is_something(tmp_path: Path) -> None:
    Journal(tmp_path / "new" / "j", KEY).close()
    assert not (tmp_path / "new").exists()


def test_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "j"
    filled(path)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        journal = Journal(path, KEY)
        whole = 0
        while whole < len(lines) and size >= sum(map(len, lines[: whole + 1])):
            whole += 1
        assert len(journal) == max(whole - 1, 0)
        journal.add(20, 29, SEGMENTS)
        journal.close()
        assert len(Journal(path, KEY)) == len(journal)


@pytest.mark.parametrize("text", ["", "x\n", "{}\n[0, 9, []]\n", "\0" * 100, "[" * 9999 + "\n"])
def test_what_is_no_journal_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j"
    path.write_text(text)
    journal = Journal(path, KEY)
    assert len(journal) == 0
    journal.add(0, 9, SEGMENTS)
    journal.close()
    assert len(Journal(path, KEY)) == 1


def test_of_other_work_nothing_is_taken(tmp_path: Path) -> None:
    filled(tmp_path / "j")
    other = Journal(tmp_path / "j", KEY | {"how": "y"})
    assert len(other) == 0
    other.add(0, 9, ())
    other.close()
    assert len(Journal(tmp_path / "j", KEY)) == 0


@pytest.mark.parametrize("line", ["[0, 9]", "[0, 9, [{}]]", "[0, 9, 3]", '{"a": 1}', "nonsense"])
def test_lines_that_are_no_windows(tmp_path: Path, line: str) -> None:
    filled(tmp_path / "j", 2)
    with (tmp_path / "j").open("a") as file:
        file.write(f"{line}\n")
    assert len(Journal(tmp_path / "j", KEY)) == 2


def test_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "j", KEY)
    with pytest.raises(InputError, match="cannot be written"):
        journal.add(0, 9, ())


def test_the_key_of_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x" * 3_000_000)
    key = recording_key(path)
    assert recording_key(path) == key
    os.utime(path, ns=(1, 1))
    assert recording_key(path) != key
    state = os.stat(path)
    before = recording_key(path)
    path.write_bytes(b"x" * 2_999_999 + b"y")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert recording_key(path) != before
    with pytest.raises(InputError, match=r"none\.wav"):
        recording_key(tmp_path / "none.wav")
    assert journal_path(tmp_path / "a") == tmp_path / ".a.part.jsonl"
