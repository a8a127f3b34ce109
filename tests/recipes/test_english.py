"""The English recipes, two steps each, on stand-ins for their sets of the committed speech."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mynah.model_folder import read_model_folder

pytest.importorskip("torch")
pytest.importorskip("safetensors")


def _write(path: Path, rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n", encoding="utf-8")


# How the words of the committed speech are said, enough of them for two steps; the rest by rule.
_DICTIONARY = (
    "the DH AH0\na AH0\nand AH0 N D\nof AH1 V\nto T UW1\nin IH0 N\nis IH1 Z\nbox B AA1 K S\n"
)
_DICTIONARY += "".join(
    f"{letter}e {sound}1\n"
    for letter, sound in zip("aeiou", ("EY", "IY", "AY", "OW", "UW"), strict=True)
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Path:
    """A folder with the sets that the recipes name."""
    import soundfile

    root = tmp_path_factory.mktemp("data")
    with (speech / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    header = ["id", "path", "speaker", "duration", "text", "split", "phones"]
    names = ["speechocean762", "vctk_p239", "ljspeech_145", "native"]
    names += ["synth/train", "synth/more", "synth/words", "synth/varied", "synth/voices"]
    names += ["synth/other", "synth/voices_2", "synth/everyday"]
    names += ["synth/varied_3", "synth/voices_3", "synth/everyday_2"]
    names.append("librispeech_untranscribed")
    for name in names:
        lines = [header]
        for row in rows:
            # "0026" is one of the recipe's speakers of the development set.
            speaker = "0026" if row["split"] == "dev" else row["speaker"]
            text = row["text"].upper() if name == "speechocean762" else row["text"]
            path = str(speech / row["path"])
            lines.append(
                [row["id"], path, speaker, row["duration"], text, "train", "sil 20 dh 5 ah 9"]
            )
        _write(root / name / "manifest.tsv", lines)
        _write(root / name / "aligned.tsv", lines)
        for label in ("pocketsphinx", "phones_6", "phones_7", "phones_8", "phones_9",
                      "phones_10", "phones_12", "phones_14", "phones_16"):  # fmt: skip
            _write(root / name / f"by_{label}.tsv", lines)
    noise = np.random.default_rng(1).standard_normal(16000).astype(np.float32) * 0.1
    room = np.exp(-np.arange(800) / 100).astype(np.float32)
    soundfile.write(str(root / "noise.wav"), noise, 16000)
    soundfile.write(str(root / "room.wav"), room, 16000)
    _write(
        root / "esc10" / "manifest.tsv",
        [["id", "path", "duration", "class"], ["n", str(root / "noise.wav"), "1.0", "Rain"]],
    )
    _write(
        root / "room_responses" / "manifest.tsv",
        [["id", "path", "duration"], ["r", str(root / "room.wav"), "0.05"]],
    )
    (root / "text").mkdir()
    with lzma.open(root / "text" / "cmudict.dict.xz", "wt", encoding="utf-8") as file:
        file.write(_DICTIONARY)
    return root


@pytest.mark.parametrize("name", ["first", "small"])
def test_two_steps_of_the_recipes_of_letters(
    repository: Path, sets: Path, tmp_path: Path, name: str
) -> None:
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    recipe = repository / "recipes" / "english" / f"{name}.toml"
    given = read_recipe(recipe)
    config = read_recipe(
        recipe,
        [f"data.root={sets}", "loop.max_steps=2", "loop.tensorboard=false",
         "model.encoder.layers=2"],
    )  # fmt: skip
    assert train(config, tmp_path / "run", device="cpu", threads=1)
    folder = read_model_folder(tmp_path / "run" / "model")
    assert folder.info.config["encoder"]["subsampling"] == given.model["encoder"]["subsampling"]


def fewer_layers(recipe: Any) -> list[str]:
    """Two layers, three where the recipe has more than eight; as many as before if it says none."""
    layers = recipe.model.get("encoder", {}).get("layers")
    return [f"model.encoder.layers={2 + (layers > 8)}"] if layers else []


def grammar(sets: Path, model: str) -> Path:
    """The n-gram of units that a recipe of MMI takes, of the texts of a set."""
    from mynah.cli import main
    from mynah.text.pronounce import PHONES

    text, out = sets / "units.txt", sets / "units.ngram"
    manifest = str(sets / "synth" / "train" / "manifest.tsv")
    units = ["data", "units", manifest, "--model", model, "--language", "en", "--out", str(text)]
    assert main([*units, "--pieces", "0.3"]) == 0
    with text.open("a", encoding="utf-8") as file:  # few sentences have few sounds
        file.write(" ".join(PHONES) + "\n")
    assert main(["lm", "train", str(text), "--out", str(out), "--order", "3", "--bits", "32"]) == 0
    return out


def test_two_steps_of_each_phone_recipe_one_after_the_other(
    repository: Path, sets: Path, tmp_path: Path
) -> None:
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    recipes = sorted(
        (repository / "recipes" / "english").glob("phones_*.toml"),
        key=lambda path: int(path.stem.removeprefix("phones_")),
    )
    assert len(recipes) > 1
    model = ""
    for recipe in recipes:
        given = read_recipe(recipe)
        dev = set(given.data.dev[0].where["speaker"])
        assert dev == set(given.data.train[0].exclude["speaker"]) and len(dev) == 12
        assert all(source.where.get("split") != "test" for source in given.data.train)
        assert not any(source.manifest.startswith("native") for source in given.data.train)
        config = read_recipe(
            recipe,
            [f"data.root={sets}", "loop.max_steps=2", "loop.tensorboard=false",
             *fewer_layers(given), *([f"init={model}"] if model else []),
             *([f"task.grammar={grammar(sets, model)}"] if "grammar" in given.task else [])],
        )  # fmt: skip
        out = tmp_path / recipe.stem
        assert train(config, out, device="cpu", threads=1)
        model = str(out / "model")
    folder = read_model_folder(model)
    assert folder.info.name == "mynah-en" and folder.info.languages == ("en",)
    assert folder.info.tokenizer["kind"] == "phone"
    assert folder.info.streaming == {"chunk": 16, "left": 8}
