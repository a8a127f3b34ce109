"""The recipes of the English language model, two steps each, on the small text of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mynah.model_folder import read_model_folder

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("sentencepiece")


def test_two_steps_and_two_of_everyday_speech(repository: Path, tmp_path: Path) -> None:
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    recipes = repository / "recipes" / "english"
    text = repository / "tests" / "data" / "prose" / "en.txt"
    sources = f'[{{ manifest = "{text}" }}]'
    config = read_recipe(
        recipes / "lm.toml",
        [f"data.train={sources}", f"data.dev={sources}", "loop.max_steps=2", "schedule.warmup=1",
         "loop.tensorboard=false", "tokenizer.vocab_size=150", "task.tokenizer_every=1"],
    )  # fmt: skip
    torch.set_num_threads(1)
    assert train(config, tmp_path / "run", device="cpu", threads=1)
    info = read_model_folder(tmp_path / "run" / "model").info
    assert (info.name, info.family, info.languages) == ("mynah-lm-en", "lm", ("en",))
    assert {key: info.config[key] for key in ("dim", "layers", "context")} == {
        key: config.model[key] for key in ("dim", "layers", "context")
    }

    some = (recipes / "everyday.txt").read_text("utf-8").splitlines(keepends=True)[:1000]
    (tmp_path / "everyday.txt").write_text("".join(some), "utf-8")
    (tmp_path / "read.txt").write_text("one two three\n", "utf-8")
    own = [f'{{ manifest = "{name}.txt", repeat = 2 }}' for name in ("read", "everyday")]
    everyday = read_recipe(
        recipes / "lm_everyday.toml",
        [f"init={tmp_path / 'run' / 'model'}", f"data.root={tmp_path}", f"data.dev={sources}",
         f"data.train=[{', '.join(own)}]", "loop.max_steps=2", "schedule.warmup=1"],
    )  # fmt: skip
    assert train(everyday, tmp_path / "everyday", device="cpu", threads=1)
    found = read_model_folder(tmp_path / "everyday" / "model").info
    assert (found.name, found.config) == (info.name, info.config)


@pytest.mark.parametrize("recipe", ["lm.toml", "lm_everyday.toml"])
def test_what_is_watched_is_not_trained_on(repository: Path, recipe: str) -> None:
    from mynah.corpus.select import matcher
    from mynah.text.prose import Line
    from mynah.training.config import read_recipe

    data = read_recipe(repository / "recipes" / "english" / recipe).data
    (dev,) = data.dev
    used = matcher(dev.where, dev.exclude)
    prose = [
        matcher(source.where, source.exclude)
        for source in data.train
        if source.manifest == dev.manifest
    ]
    assert len(prose) == 2
    assert len(dev.where["title"]) == 5
    for title in dev.where["title"]:
        assert used(Line(title, 3, ""))
        assert not any(trained(Line(title, 3, "")) for trained in prose)
    assert prose[0](Line("Another book", 3, "")) and not used(Line("Another book", 3, ""))


def test_everyday_sentences_are_plain_and_different(repository: Path) -> None:
    lines = (repository / "recipes" / "english" / "everyday.txt").read_text("utf-8").splitlines()
    assert len(lines) == len(set(lines)) > 22_000
    odd = [line for line in lines if not re.fullmatch(r"[A-Za-z ,.?!'-]+", line)]
    assert not odd, odd[:3]
