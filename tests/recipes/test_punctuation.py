"""The punctuation recipes, two steps, on the small text of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mynah.model_folder import read_model_folder

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_two_steps(repository: Path, tmp_path: Path, language: str) -> None:
    from mynah.training.config import read_recipe
    from mynah.training.run import train

    recipe = repository / "recipes" / "punctuation" / f"{language}.toml"
    text = repository / "tests" / "data" / "prose" / f"{language}.txt"
    sources = f'[{{ manifest = "{text}" }}]'
    config = read_recipe(
        recipe,
        [f"data.train={sources}", f"data.dev={sources}", "loop.max_steps=2",
         "loop.tensorboard=false"],
    )  # fmt: skip
    torch.set_num_threads(1)
    assert train(config, tmp_path / "run", device="cpu", threads=1)
    info = read_model_folder(tmp_path / "run" / "model").info
    assert info.name == f"mynah-punct-{language}" and info.languages == (language,)
    assert info.config["features"] == config.model["features"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_tested_on_is_not_trained_on(repository: Path, language: str) -> None:
    import importlib.util

    from mynah.corpus.select import matcher
    from mynah.text.prose import Line
    from mynah.training.config import read_recipe

    path = repository / "benchmarks" / "punctuation.py"
    spec = importlib.util.spec_from_file_location("punctuation_benchmark", path)
    assert spec is not None and spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    data = read_recipe(repository / "recipes" / "punctuation" / f"{language}.toml").data
    assert benchmark.TEST[language]
    for source in (*data.train, *data.dev):
        used = matcher(source.where, source.exclude)
        for title, (first, stop) in benchmark.TEST[language].items():
            assert not any(used(Line(title, n, "")) for n in (first, (first + stop) // 2, stop - 1))
    for source in data.dev:
        for other in data.train:
            used, trained = (matcher(s.where, s.exclude) for s in (source, other))
            titles = source.where["title"]
            for title in [titles] if isinstance(titles, str) else titles:
                lines = [Line(title, n, "") for n in range(0, 50_000, 7)]
                assert not any(used(line) and trained(line) for line in lines)
