"""A checkpoint of another toolkit is fine-tuned on one's own recordings in two commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.cli import main
from mynah.model_folder import read_model_folder

torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "own" / "finetune.toml"


@pytest.fixture
def wenet(shared: Path) -> Path:
    """A tiny random checkpoint that WeNet wrote."""
    return shared / "parity" / "u2pp-conformer"


@pytest.mark.parametrize("new_units", [False, True])
def test_in_two_commands(
    wenet: Path,
    own_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    new_units: bool,
) -> None:
    model, run = tmp_path / "my-model", tmp_path / "run"
    torch.set_num_threads(1)
    assert main(["import", "wenet", str(wenet), str(model)]) == 0
    command = ["train", str(RECIPE), f"init={model}", f"data.root={own_data}", "--out", str(run)]
    command += ["loop.max_epochs=1", "loop.tensorboard=false", "--device", "cpu"]
    if new_units:
        command += ["tokenizer.kind=char", "data.text=lower"]
    assert main(command) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "% errors" in said
    assert ("made anew for the new vocabulary" in said) is new_units
    before, after = read_model_folder(model), read_model_folder(run / "model")
    assert before.info.frontend.items() <= after.info.frontend.items()
    assert after.info.config["encoder"] == before.info.config["encoder"]
    assert (after.info.tokenizer == before.info.tokenizer) is not new_units
    after.verify()
