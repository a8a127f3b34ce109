"""A Whisper checkpoint is fine-tuned on one's own recordings in two commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import whisper_files as files

from mynah.cli import main
from mynah.model_folder import read_model_folder
from mynah.runtime.whisper.config import WhisperDims

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

DIMS = WhisperDims(80, 1500, 32, 2, 1, files.TOKENS, 128, 32, 2, 1)


@pytest.mark.parametrize("recipe", ["finetune", "lora"])
def test_in_two_commands(
    repository: Path,
    own_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
) -> None:
    source = files.write_huggingface(tmp_path / "hf", files.random_tensors(DIMS), DIMS)
    model, run = tmp_path / "my-whisper", tmp_path / "run"
    torch.set_num_threads(1)
    assert main(["import", "whisper", str(source), str(model)]) == 0
    path = repository / "recipes" / "whisper" / f"{recipe}.toml"
    command = ["train", str(path), f"init={model}", f"data.root={own_data}", "--out", str(run)]
    command += ["loop.max_steps=2", "loop.tensorboard=false", "--device", "cpu"]
    command += ["task.max_new_tokens=8"]
    assert main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "% errors" in said and "tensors from" in said
    assert ("layers adapted, rank 16" in said) is (recipe == "lora")
    before, after = read_model_folder(model), read_model_folder(run / "model")
    after.verify()
    assert after.info.config == before.info.config
    assert after.info.tokenizer == before.info.tokenizer
    assert after.info.frontend == before.info.frontend
    assert after.info.languages == before.info.languages
    graphs = {name for name in before.files if name.startswith("onnx/")}
    assert graphs == {name for name in after.files if name.startswith("onnx/")}
    for name in graphs:
        kept = recipe == "lora" and "embedding" in name  # which no adapter changes
        changed = before.files[name] != after.files[name]
        assert changed is not kept, f"{name}: the graphs hold the new weights"
