"""A file is written whole or not at all, and only a file is replaced."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from mynah.errors import InputError
from mynah.whole import whole_file, whole_text, write_whole


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    write_whole(target, "first\n")
    with pytest.raises(KeyError), whole_text(target) as stream:
        stream.write("half")
        raise KeyError
    assert target.read_bytes() == b"first\n"
    assert os.listdir(target.parent) == ["a.txt"]
    with whole_text(target) as stream:
        stream.write("é\n")
        assert target.read_bytes() == b"first\n"
    assert target.read_bytes() == "é\n".encode()


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no pipes with a name")
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, "abc")
    reader.join(10)
    assert heard == [b"abc"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["folder", "file/a.txt", "zero\0"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"), whole_file(tmp_path / name):
        raise AssertionError("was opened")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full")
    with pytest.raises(InputError, match="/dev/full: cannot be written"):
        write_whole("/dev/full", "abc")
    assert Path("/dev/full").is_char_device()


def test_an_error_of_another_file_is_not_blamed_on_this(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        (tmp_path / "b").read_bytes()
    assert os.listdir(tmp_path) == []
