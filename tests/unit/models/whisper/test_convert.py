"""Import into a model folder: what it holds, without torch, by name from the hub, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_files import DIMS, random_tensors

from mynah.audio.features import make_frontend
from mynah.cli import main
from mynah.config import build
from mynah.errors import MissingDependency, ModelError
from mynah.model_folder import read_model_folder
from mynah.models.whisper.checkpoints.safetensors import read_safetensors
from mynah.models.whisper.convert import import_whisper
from mynah.models.whisper.hub import fetch
from mynah.runtime.whisper.config import WhisperConfig
from mynah.text.whisper_tokenizer import load_whisper_tokenizer


def sources(folder: Path) -> dict[str, Path]:
    """A checkpoint of every layout that can be written without PyTorch."""
    tensors = random_tensors()
    return {
        "huggingface": files.write_huggingface(folder / "hf", tensors),
        "ggml": files.write_ggml(folder / "ggml.bin", tensors, "f32"),
        "ctranslate2": files.write_ctranslate2(folder / "ct2", tensors, "float32"),
    }


@pytest.mark.parametrize("layout", ["huggingface", "ggml", "ctranslate2"])
def test_model_folder(tmp_path: Path, layout: str) -> None:
    out = import_whisper(sources(tmp_path)[layout], tmp_path / "out", name="tiny")
    folder = read_model_folder(out)
    folder.verify()
    info = folder.info
    assert (info.family, info.name, info.sample_rate) == ("whisper", "tiny", 16000)
    assert info.languages == files.LANGUAGES
    config = build(WhisperConfig, info.config)
    assert config.dims == DIMS
    assert config.alignment_heads[0] == (1, 0)
    assert make_frontend(info.frontend).dim == 80
    tokenizer = load_whisper_tokenizer(out / "tokenizer", info.tokenizer)
    assert tokenizer.decode(tokenizer.encode(" the cat")) == " the cat"
    assert tokenizer.special.no_timestamps == files.special_tokens()["<|notimestamps|>"]
    if layout == "ctranslate2":
        assert (config.suppress_tokens, config.begin_suppress_tokens) == ((3, 5), (32,))
    else:  # the original's default
        assert set(tokenizer.non_speech_tokens) < set(config.suppress_tokens)
        assert tokenizer.special.sot in config.suppress_tokens
        assert config.begin_suppress_tokens == (32, 300)
    weights = read_safetensors(folder.file("weights.safetensors"))
    for name, value in random_tensors().items():
        np.testing.assert_array_equal(weights[name], value, err_msg=name)
    card = (out / "CARD.md").read_text("utf-8")
    assert "0.33 M parameters, 3 languages" in card


def test_openai_needs_a_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    path = files.write_openai(tmp_path / "tiny.pt", random_tensors())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="no .whole. vocabulary.*--tokenizer.*multilingual.tik"):
        import_whisper(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    hf = sources(tmp_path)["huggingface"]
    out = import_whisper(path, tmp_path / "out", tokenizer=hf)
    assert read_model_folder(out).info.name == "out"
    assert (out / "tokenizer" / "merges.txt").is_file()


def test_the_vocabulary_of_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from mynah.text.byte_bpe import save_vocabulary

    save_vocabulary(files.vocabulary(), tmp_path / "whisper" / "assets")
    (tmp_path / "whisper" / "assets" / "tokens.tiktoken").rename(
        tmp_path / "whisper" / "assets" / "multilingual.tiktoken"
    )
    (tmp_path / "whisper" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "whisper", raising=False)  # the real one, where it is
    path = files.write_openai(tmp_path / "tiny.pt", random_tensors())
    out = import_whisper(path, tmp_path / "out")
    assert (out / "tokenizer" / "tokens.tiktoken").is_file()


def test_vocabulary_and_filters_that_do_not_fit(tmp_path: Path) -> None:
    found = sources(tmp_path)
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    files.write_vocab_json(wrong, files.vocabulary(290), specials=False)
    with pytest.raises(ModelError, match="wrong/x: no such file"):
        import_whisper(found["ggml"], tmp_path / "out", tokenizer=wrong / "x")
    files.write_vocab_json(wrong, files.vocabulary(270), specials=True)
    with pytest.raises(ModelError, match="wrong: special tokens: no_timestamps: -4 is not"):
        values = files.special_tokens()
        values["<|notimestamps|>"] = -4
        (wrong / "added_tokens.json").write_text(json.dumps(values))
        import_whisper(found["ctranslate2"], tmp_path / "out", tokenizer=wrong)
    data = bytearray(found["ggml"].read_bytes())
    data[56:60] = np.float32(0.5).tobytes()
    found["ggml"].write_bytes(data)
    with pytest.raises(ModelError, match="its mel filters are not those of Whisper"):
        import_whisper(found["ggml"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("weights", "code"), [("keep", "<f4"), ("fp16", "<f2"), ("fp32", "<f4")])
def test_command(
    tmp_path: Path, weights: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = sources(tmp_path)["huggingface"], tmp_path / "out"
    arguments = ["import", "whisper", str(source), str(out), "--weights", weights]
    assert main(arguments) == 0
    assert "whisper model, 3 languages" in capsys.readouterr().out
    stored = read_safetensors(out / "weights.safetensors").stored
    assert {s.dtype.str for s in stored.values()} == {code}
    values = tomllib.loads((out / "model.toml").read_text("utf-8"))
    assert values["config"]["dims"]["n_vocab"] == files.TOKENS
    assert (out / "onnx/decoder.int8.onnx").is_file()
    assert main([*arguments, "--precision", "none"]) == 0
    assert not (out / "onnx").exists()
    assert main(["import", "whisper", str(tmp_path / "none"), str(out)]) == 2
    assert "none: no such file or folder" in capsys.readouterr().err
    assert main(["import", "wenet", str(source), str(out), "--tokenizer", "x"]) == 2
    assert "--tokenizer: not with wenet" in capsys.readouterr().err
    assert main(["models", str(out)]) == 0


def test_import_runs_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    found = sources(tmp_path)
    if pytest.importorskip("torch"):
        found["openai"] = files.write_openai(tmp_path / "tiny.pt", random_tensors())
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'onnx', 'safetensors', 'onnxruntime'):\n"
        "            raise ImportError(f'{name} must not be imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import mynah.models.whisper.hub\n"
        "from mynah.cli import main\n"
        f"for source in {[str(p) for p in found.values()]!r}:\n"
        f"    code = main(['import', 'whisper', source, {str(tmp_path / 'out')!r},\n"
        f"                 '--tokenizer', {str(found['huggingface'])!r}])\n"
        "    assert code == 0, (source, code)\n"
        "assert 'pickle' not in sys.modules or 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("whisper model") == len(found)


def hub(monkeypatch: pytest.MonkeyPatch, snapshot: Callable[..., Any]) -> None:
    """A huggingface_hub that calls ``snapshot`` for everything."""
    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot  # type: ignore[attr-defined]
    module.hf_hub_download = snapshot  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources(tmp_path)["huggingface"]
    calls: list[tuple[Any, ...]] = []

    def download(*args: Any, **options: Any) -> str:
        calls.append((args, options))
        return str(source)

    monkeypatch.setenv("MYNAH_HOME", str(tmp_path / "home"))
    hub(monkeypatch, download)
    out = import_whisper("hf:openai/whisper-small", tmp_path / "out")
    assert read_model_folder(out).info.family == "whisper"
    (args, options) = calls[0]
    assert args == ("openai/whisper-small",)
    assert options["cache_dir"] == tmp_path / "home" / "hub"
    assert "model.safetensors" in options["allow_patterns"] and len(calls) == 1
    fetch("hf:a/b/ggml-tiny.bin@v1")
    assert calls[1][0] == ("a/b", "ggml-tiny.bin") and calls[1][1]["revision"] == "v1"
    (source / "model.safetensors").unlink()
    assert fetch("hf:a/b@main") == source  # then the older files are asked for
    assert "pytorch_model.bin" in calls[3][1]["allow_patterns"]


def test_names_of_the_hub_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hf:x", "hf:", "hf:a/b/../../c d", "hf:a b/c"):
        with pytest.raises(ModelError, match="not of the form hf:owner/name"):
            fetch(name)

    def fail(*args: Any, **options: Any) -> str:
        raise ConnectionError("no route\nto host")

    hub(monkeypatch, fail)
    with pytest.raises(ModelError, match=r"hf:a/b: cannot be downloaded \(no route\)"):
        fetch("hf:a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"pip install 'mynah-speech\[hub\]'"):
        fetch("hf:a/b")


def test_a_name_of_the_hub_works_offline_afterwards(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    cache = tmp_path / "home" / "hub" / "models--a--b"
    files.write_huggingface(cache / "snapshots" / ("0" * 40), random_tensors())
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    arguments = [sys.executable, "-m", "mynah", "import", "whisper", "hf:a/b", str(tmp_path / "x")]
    offline = {**os.environ, "MYNAH_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=offline)
    assert done.returncode == 0, done.stderr
    arguments[5] = "hf:a/c"
    done = subprocess.run(arguments, capture_output=True, text=True, env=offline)
    assert done.returncode == 2
    assert done.stderr.startswith("mynah import: hf:a/c: cannot be downloaded (")
    assert done.stderr.count("\n") == 1


def test_tokens_of_a_larger_vocabulary_need_not_be_forbidden(tmp_path: Path) -> None:
    source = sources(tmp_path)["huggingface"]
    settings = {"suppress_tokens": [3, 99_999], "begin_suppress_tokens": [32, 70_000],
                "alignment_heads": [[10, 12]]}  # fmt: skip
    (source / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    folder = read_model_folder(import_whisper(source, tmp_path / "out"))
    config = build(WhisperConfig, folder.info.config)
    assert (config.suppress_tokens, config.begin_suppress_tokens) == ((3,), (32,))
    assert config.alignment_heads == ((1, 0), (1, 1))
