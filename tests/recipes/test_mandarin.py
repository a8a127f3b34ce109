"""The Mandarin recipes, two steps each, from a small English model; the speech is a stand-in."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from mynah.model_folder import read_model_folder

pytest.importorskip("torch")
pytest.importorskip("safetensors")

HANZI = "天\tt ian 1\n地\td i 4\n玄\tx van 2\n黄\th uang 2\n人\tr en 2\n人\tr en 4\n"


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Path:
    """A folder with the sets that the recipes name."""
    root = tmp_path_factory.mktemp("data")
    with (speech / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for name in ("aishell1_sample", "synth_zh", "english"):
        lines = [["id", "path", "speaker", "duration", "text", "split"]]
        for row in rows:
            text = row["text"] if name == "english" else "天地玄黄，人"
            path = str(speech / row["path"])
            lines.append([row["id"], path, row["speaker"], row["duration"], text, row["split"]])
        _write(root / name / "manifest.tsv", lines)
    noise = str(speech / rows[0]["path"])
    _write(root / "esc10" / "manifest.tsv",
           [["id", "path", "duration", "class"], ["n", noise, "2.0", "Rain"]])  # fmt: skip
    (root / "text").mkdir()
    (root / "text" / "hanzi.tsv").write_text(HANZI, "utf-8")
    (root / "text" / "cmudict.dict").write_text("the DH AH0\na AH0\nin IH0 N\n", "utf-8")
    return root


def test_two_steps_of_each_from_an_english_model(
    repository: Path, sets: Path, tmp_path: Path
) -> None:
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    few = [f"data.root={sets}", "loop.max_steps=2", "loop.tensorboard=false"]
    source = '[{ manifest = "english/manifest.tsv", language = "en" }]'
    english = read_recipe(
        repository / "recipes" / "english" / "phones_1.toml",
        [*few, f"data.train={source}", f"data.dev={source}", "model.encoder.layers=2",
         "tokenizer.dictionary=text/cmudict.dict"],
    )  # fmt: skip
    assert train(english, tmp_path / "english", device="cpu", threads=1)
    model = str(tmp_path / "english" / "model")
    recipes = sorted((repository / "recipes" / "mandarin").glob("sounds_*.toml"))
    assert len(recipes) == 2
    for recipe in recipes:
        config = read_recipe(recipe, [*few, f"init={model}"])
        assert all(s.where.get("split") != "test" for s in (*config.data.train, *config.data.dev))
        assert train(config, tmp_path / recipe.stem, device="cpu", threads=1)
        model = str(tmp_path / recipe.stem / "model")
    info = read_model_folder(model).info
    assert info.languages == ("zh",)
    assert info.tokenizer == {"kind": "phone", "language": "zh"}
    assert info.config["vocab_size"] == 63
