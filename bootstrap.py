"""Set mynah up on a fresh machine and use it. Needs Python 3.11 to 3.13 and pip, nothing else.

    python3 bootstrap.py hear [RECORDING ...]    core install, then offline and live transcription
    python3 bootstrap.py add EXTRA ...    extras to that install: train, media, mic, text, hub, lm
    python3 bootstrap.py test [PYTEST OPTION ...]    training and test extras, then the tests

They make environments beside this file (``.venv``, whose ``bin/activate`` gives the command
``mynah``, and ``.venv-test``) and use them again the next time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import subprocess
import sys
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "constraints.txt"


def main(arguments: list[str]) -> int:
    """Run ``hear``, ``add`` or ``test``; the exit code is that of what was run."""
    verbs = {"hear": hear, "add": add, "test": test}
    if not arguments or arguments[0] not in verbs:
        print(__doc__)
        return 2
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print(f"mynah needs Python 3.11 to 3.13, this is {sys.version.split()[0]}")
        return 2
    return verbs[arguments[0]](arguments[1:])


def hear(recordings: list[str]) -> int:
    """Install the core and transcribe ``recordings``, or the two bundled ones."""
    python = installed([])
    files = recordings or sorted(str(p) for p in (HERE / "examples").glob("*.flac"))
    code = subprocess.call([str(python), str(HERE / "examples" / "hear.py"), *files])
    print(f"\nThe command mynah: {activation(python)}")
    return code


def add(extras: list[str]) -> int:
    """Install extras beside what is there."""
    known = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))
    known = known["project"]["optional-dependencies"]
    wrong = [name for name in extras if name not in known]
    if wrong or not extras:
        print(f"{', '.join(wrong) or 'no extra'}: name some of {', '.join(known)}")
        return 2
    print(f"The command mynah: {activation(installed(extras))}")
    return 0


def installed(extras: list[str]) -> Path:
    """The Python of ``.venv`` with the core, what was added before, and ``extras``."""
    kept = HERE / ".venv" / "extras"
    names = sorted({*(kept.read_text().split() if kept.is_file() else ()), *extras})
    torch = [["torch"]] if "train" in names else []
    installs = [*torch, [f".[{','.join(names)}]" if names else "."]]
    return environment(HERE / ".venv", installs, names, grows=bool(extras))


def activation(python: Path) -> str:
    """What a shell is told to find the commands of an environment."""
    if os.name == "nt":
        return str(python.with_name("activate"))
    return f". {shlex.quote(os.path.relpath(python.with_name('activate')))}"


def test(options: list[str]) -> int:
    """Install the training and test extras and run the checks and the tests."""
    # openai-whisper without what it asks for, of which [test] has all but Triton
    whisper = ["--no-deps", "openai-whisper"]
    python = environment(HERE / ".venv-test", [["torch"], [".[train,test]"], whisper])
    checks = [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        ["-m", "pytest", *(options or ["-n", "2", "-q"])],
    ]
    # one thread a process: two test workers share two cores
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    codes = [subprocess.call([str(python), *c], cwd=HERE, env=variables) for c in checks]
    return max(map(abs, codes))


def environment(
    folder: Path, installs: list[list[str]], extras: Sequence[str] = (), *, grows: bool = False
) -> Path:
    """Make the environment ``folder`` with what ``installs`` names, unless it is there already;
    ``extras`` are what is remembered of it. One that ``grows`` keeps what it has."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, kept, wanted = folder / "installed", folder / "extras", fingerprint(installs)
    if stamp.is_file() and stamp.read_text() == wanted and python.is_file():
        return python
    if folder.is_dir() and any(folder.iterdir()) and not (stamp.exists() or kept.exists()):
        sys.exit(f"{folder} is there and was not made by {Path(__file__).name}; move it away")
    if not (grows and stamp.is_file() and python.is_file()):
        print(f"making {folder.name} (once)", flush=True)
        # without ensurepip, which some systems package apart: the pip that runs us installs into it
        venv.create(folder, clear=True, with_pip=False, symlinks=os.name != "nt")
        kept.write_text(" ".join(extras))
    for packages in installs:
        command = [installer(), "-m", "pip", "--python", str(python), "install", "--quiet"]
        command += ["--disable-pip-version-check", "--constraint", str(CONSTRAINTS)]
        code = subprocess.call([*command, *packages], cwd=HERE)
        if code:
            sys.exit(f"pip could not install {' '.join(packages)} (exit code {code})")
    kept.write_text(" ".join(extras))
    stamp.write_text(wanted)
    return python


def installer() -> str:
    """A Python that has pip: this one, or the one that this environment was made from."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    return str(getattr(sys, "_base_executable", sys.executable))


def fingerprint(installs: list[list[str]]) -> str:
    """Changes when something that is installed changes: the package is installed as a copy."""
    digest = hashlib.sha256(repr((installs, sys.version)).encode())
    tree = [HERE / "pyproject.toml", CONSTRAINTS, *sorted((HERE / "src").rglob("*"))]
    for path in tree:
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(HERE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
