"""What a terminal shows: the progress of `mynah transcribe`, the words of `mynah listen`."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mynah.audio import write
from tone_model import RATE, speak, write_tone_model

pty = pytest.importorskip("pty")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_model(tmp_path_factory.mktemp("terminal") / "tones")


def shown(command: list[str], *, on: str, data: bytes | None = None) -> tuple[str, str]:
    """Run with standard output or error (``on``) on a terminal: what came there, and what came on
    the other of them."""
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("no terminal can be opened")
    seen: list[bytes] = []

    def watch() -> None:
        with contextlib.suppress(OSError):  # Linux's way to say that the other side is closed
            while part := os.read(ours, 4096):
                seen.append(part)

    other = "stderr" if on == "stdout" else "stdout"
    streams: dict[str, int] = {on: theirs, other: subprocess.PIPE}
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    environment = {k: v for k, v in environment.items() if k not in ("NO_COLOR", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mynah", *command],
        stdin=subprocess.PIPE, env=environment, **streams,
    )  # fmt: skip
    os.close(theirs)
    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate(data, timeout=120)
    watcher.join(timeout=30)
    os.close(ours)
    assert process.returncode == 0, (out, err, seen)
    text = b"".join(seen).decode()
    return text, (err if on == "stdout" else out).decode()


def plain(text: str) -> str:
    """Without the sequences that move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_transcribe_shows_its_progress(model: Path, tmp_path: Path) -> None:
    for number, text in enumerate(["abc de", "bad"]):
        write(tmp_path / f"{number}.wav", speak(text), RATE)
    command = ["transcribe", str(tmp_path), "--model", str(model)]
    screen, out = shown(command, on="stderr")
    assert out == f"{tmp_path / '0.wav'}:\n  abc de\n{tmp_path / '1.wav'}:\n  bad\n"
    assert "\x1b[" in screen
    assert "transcribing" in screen  # at first
    assert "min of audio" in plain(screen)  # then
    assert re.search(r"\b50%", plain(screen))
    assert plain(screen).rstrip().endswith("times faster than real time")
    screen, _ = shown([*command, "--quiet"], on="stderr")
    assert screen == ""


def test_listen_shows_words_as_they_are_heard(model: Path) -> None:
    sound = np.concatenate([speak("abc"), np.zeros(2 * RATE, np.float32), speak("de")])
    data = (sound * 32767).astype("<i2").tobytes()
    screen, err = shown(["listen", "--pcm", "--model", str(model)], on="stdout", data=data)
    assert err == "listening; Ctrl-C ends\n"
    for partial in ("a", "ab", "abc", "d", "de"):  # dim, before they are printed for good
        assert f"\x1b[2m{partial}\x1b[0m" in screen
    lines = [line.strip() for line in plain(screen).replace("\r", "\n").split("\n")]
    assert [line for line in lines if line][-1] == "de"
    assert screen.index("\x1b[2mabc\x1b[0m") < screen.index("\x1b[2md\x1b[0m")
    for final in ("abc", "de"):  # on a line of its own, and stays
        assert f"\x1b[2K{final}\r\n" in screen
