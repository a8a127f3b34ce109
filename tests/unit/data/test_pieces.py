"""Pieces of utterances whose alignment is known, and silence around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mynah.corpus import read_manifest, write_tsv
from mynah.corpus.runs import FRAME, format_runs, parse_runs
from mynah.data.config import CropConfig, DataConfig, SilenceConfig
from mynah.data.loader import Loader
from mynah.data.pieces import crop, surround
from mynah.errors import ConfigError
from mynah.text import Tokenizer

RATE = 16_000
STEP = round(FRAME * RATE)
RUNS = parse_runs("sil 30 dh 5 ah 7 sil 20 k 4 ae 12 t 6 sil 41")
UNITS = {"dh", "ah", "k", "ae", "t"}


def marked(runs: tuple[tuple[str, int], ...]) -> np.ndarray:
    """Samples that say which frame they are of."""
    frames = sum(length for _, length in runs)
    return np.repeat(np.arange(frames, dtype=np.float32), STEP)


def test_a_piece_is_where_its_runs_say() -> None:
    samples = marked(RUNS)
    names = np.repeat([name for name, _ in RUNS], [length for _, length in RUNS])
    seen = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        piece, runs = crop(rng, samples, RUNS, UNITS, CropConfig(1.0, (0.05, 0.9), 0.1), RATE)
        said = [name for name, _ in runs if name in UNITS]
        seen.add(" ".join(said))
        assert said and all(length >= 0 for _, length in runs)
        assert runs[0][1] <= 10 and runs[-1][1] <= 10  # the margins
        assert len(piece) == STEP * sum(length for _, length in runs)
        # each unit of the piece lies where it lay in the whole
        frames = piece[STEP // 2 :: STEP].astype(int)
        told = np.repeat([name for name, _ in runs], [length for _, length in runs])
        inside = slice(runs[0][1], len(told) - runs[-1][1])
        assert told[inside].tolist() == names[frames][inside].tolist()
    assert {"dh ah k ae t", "ah", "t", "ae t", "k ae t"} <= seen
    assert not any("ah t" in said or "dh k" in said for said in seen)  # nothing is left out


def test_a_long_piece_is_all_of_it() -> None:
    rng = np.random.default_rng(0)
    piece, runs = crop(rng, marked(RUNS), RUNS, UNITS, CropConfig(1.0, (5.0, 5.0), 0.0), RATE)
    assert runs == (("sil", 0), *RUNS[1:-1], ("sil", 0))
    np.testing.assert_array_equal(piece, marked(RUNS)[30 * STEP : -41 * STEP])
    assert format_runs(RUNS) == "sil 30 dh 5 ah 7 sil 20 k 4 ae 12 t 6 sil 41"
    silent = parse_runs("sil 30")
    assert crop(rng, marked(silent), silent, UNITS, CropConfig(), RATE)[1] == silent


def test_silence_around() -> None:
    samples = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    quiet = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        config = SilenceConfig(1.0, (0.1, 0.4), (-60.0, -40.0))
        padded, lead, tail = surround(rng, samples, config, RATE)
        assert 10 <= lead <= 40 and 10 <= tail <= 40
        assert len(padded) == len(samples) + (lead + tail) * STEP
        before, after = padded[: lead * STEP], padded[len(padded) - tail * STEP :]
        level = 10 * np.log10(np.mean(np.concatenate([before, after]) ** 2) + 1e-12)
        quiet += level < -100
        assert level < -100 or -61 < level < -39
        np.testing.assert_allclose(padded[lead * STEP :][: len(samples)], samples, atol=0.06)
    assert 2 <= quiet <= 20


def test_a_batch_of_pieces(
    make: Callable[..., Loader], corpus: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [
        {"id": c.id, "path": c.recording.source, "duration": c.duration, "text": c.text,
         "sounds": "sil 10 A 20 c 15 sil 5"}
        for c in read_manifest(corpus)
    ]  # fmt: skip
    write_tsv(tmp_path / "manifest.tsv", rows)
    a, c = tokenizer.encode("A") + tokenizer.encode("c")
    table = {
        "train": [{"manifest": str(tmp_path)}], "alignment": "sounds", "speed": [1.0],
        "crop": {"probability": 1.0, "seconds": [0.1, 0.4], "margin": 0.0},
        "silence": {"probability": 1.0, "seconds": [0.1, 0.1]},
    }  # fmt: skip
    found = set()
    for batch in make(table).epoch(0):
        assert batch is not None and batch.labels is not None
        for row in range(len(batch.ids)):
            tokens = tuple(batch.tokens[row, : batch.token_lens[row]].tolist())
            found.add(tokens)
            sounds = {a: 20, c: 15}
            expected = [0] * 10 + [t for t in tokens for _ in range(sounds[t])] + [0] * 10
            labels = batch.labels[row].tolist()
            assert labels[: batch.feat_lens[row]] == expected[: batch.feat_lens[row]]
    assert found == {(a,), (c,), (a, c)}


def test_channels(make: Callable[..., Loader]) -> None:
    def top(channel: dict[str, float] | None) -> list[float]:
        table = {} if channel is None else {"channel": channel}
        batches = [batch for batch in make(table).epoch(0) if batch is not None]
        return [float(row[:, -1].mean()) for batch in batches for row in batch.feats]

    plain, narrow = top(None), top({"narrow": 1.0, "clipped": 0.0})
    assert narrow != plain
    assert narrow == top({"narrow": 1.0, "clipped": 0.0})
    assert top({"narrow": 0.0, "clipped": 0.0}) == plain
    assert top({"narrow": 0.0, "clipped": 1.0}) != plain


def test_noise_that_is_made(make: Callable[..., Loader], corpus: Path, tmp_path: Path) -> None:
    lines = (corpus / "manifest.tsv").read_text("utf-8").splitlines()[:2]
    (tmp_path / "one.tsv").write_text("\n".join(lines).replace("\tu", f"\t{corpus}/u") + "\n")

    def heard(made: float) -> list[float]:
        noise = {"manifest": str(tmp_path / "one.tsv"), "probability": 1.0, "made": made}
        batches = [b for b in make({"noise": noise}).epoch(0) if b is not None]
        return [float(row.mean()) for batch in batches for row in batch.feats]

    recorded = heard(0.0)
    assert heard(1.0) == heard(1.0) != recorded
    # one recording alone or noise of many kinds: few are alike
    assert sum(a == b for a, b in zip(heard(0.5), recorded, strict=True)) < len(recorded)


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop: alignment"):
        DataConfig(crop=CropConfig())
    with pytest.raises(ConfigError, match="seconds: from 3.0 to 1.0"):
        CropConfig(seconds=(3.0, 1.0))
    with pytest.raises(ConfigError, match="seconds: from -1.0"):
        SilenceConfig(seconds=(-1.0, 1.0))
    with pytest.raises(ConfigError, match="margin"):
        CropConfig(margin=-0.1)
