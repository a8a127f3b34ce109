"""Greedy search and a beam of 5 as CTranslate2 has them, of a model that its own converter wrote
and that is read by the importer."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.whisper_plain import TOKENIZER, sound
from tests.whisper_reference import DIMS, write_random

from mynah.audio.features import make_frontend
from mynah.decoding import whisper_search
from mynah.model_folder import read_model_folder
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.whisper.engine import load_whisper_engine
from mynah.runtime.whisper.options import WhisperOptions
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder

pytestmark = pytest.mark.filterwarnings("ignore")  # what the originals think of each other

FIRST = (*TOKENIZER.encode(" "), TOKENIZER.eos)
FRONTEND = make_frontend({"kind": "whisper", "num_mels": DIMS.n_mels})
MELS = np.stack([FRONTEND(sound(seed=n)).T for n in range(3)])
SEEDS = (2, 3, 4)  # texts of 1 to 64 tokens


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What the converter made of random models."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    pytest.importorskip("transformers")
    found = {}
    for seed in SEEDS:
        place = tmp_path_factory.mktemp("ct2")
        source = write_random(place / "hf", "huggingface", DIMS, seed)
        ctranslate2.converters.TransformersConverter(str(source)).convert(str(place / "ct2"))
        config = json.loads((place / "ct2" / "config.json").read_text("utf-8"))
        config["suppress_ids_begin"] = list(FIRST)  # of which the small model does not speak
        (place / "ct2" / "config.json").write_text(json.dumps(config), "utf-8")
        found[seed] = place / "ct2"
    return found


def theirs(folder: Path, beam: int, start: Sequence[int]) -> list[Any]:
    import ctranslate2

    model = ctranslate2.models.Whisper(str(folder), compute_type="float32")
    found: list[Any] = model.generate(
        ctranslate2.StorageView.from_array(np.ascontiguousarray(MELS)),
        [list(start)] * len(MELS),
        beam_size=beam,
        length_penalty=1,
        max_length=DIMS.n_text_ctx,
        suppress_blank=True,
        max_initial_timestamp_index=50,
        suppress_tokens=list(WhisperOptions().suppressed(TOKENIZER)),
        return_scores=True,
    )
    return found


def ours(folder: Path, beam: int, start: Sequence[int]) -> list[Found]:
    """With the mean log-probability of a token, which is their length penalty of 1."""
    made = folder.with_name("mynah")
    if not made.exists():
        import_whisper(folder, made, precision="fp32")
    engine = load_whisper_engine(read_model_folder(made), precision="fp32")
    options = WhisperOptions(
        temperature=0.0,
        beam_size=beam,
        length_penalty=None,
        without_timestamps=TOKENIZER.special.no_timestamps in start,
    )
    decode = WindowDecoder(engine, TOKENIZER, options, FIRST)
    asked = [Asked(tuple(start))] * len(MELS)
    return decode(engine.encode(MELS), range(len(MELS)), asked)


def ending_as_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the original a text ends where its end is better than the last hypothesis that goes on;
    in CTranslate2 only where it is among the best candidates of a window, as many as the beam is
    wide. Searches differ in nothing else."""
    plain = whisper_search._kept

    @functools.wraps(plain)
    def kept(rows: Any, scores: npt.NDArray[Any], tokens: Any, logs: Any, eot: int, begun: int,
             beam: int, found: Any) -> Any:  # fmt: skip
        scores = scores.copy()
        for window in np.unique(rows.window):
            mine = np.flatnonzero(rows.window == window)
            order = np.argsort(-scores[mine], axis=None, kind="stable")
            rank = np.argsort(order).reshape(len(mine), -1)
            late = (tokens[mine] == eot) & (rank >= beam)
            scores[mine] = np.where(late, -np.inf, scores[mine])
        return plain(rows, scores, tokens, logs, eot, begun, beam, found)

    monkeypatch.setattr(whisper_search, "_kept", kept)


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_tokens(
    folders: dict[int, Path],
    seed: int,
    timestamps: bool,
    beam: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = TOKENIZER.sot_sequence("en", timestamps=timestamps)
    wanted = theirs(folders[seed], beam, start)
    if beam > 1 and timestamps:  # the others do not end
        ending_as_there(monkeypatch)
    for one, other in zip(ours(folders[seed], beam, start), wanted, strict=True):
        assert list(one.tokens) == other.sequences_ids[0]
        ended = one.avg_logprob * (len(one.tokens) + 1)
        assert ended / len(one.tokens) == pytest.approx(other.scores[0], abs=1e-4)


def test_ends_are_what_differs(folders: dict[int, Path]) -> None:
    """Without that rule of theirs some texts end earlier, as in the original."""
    start = TOKENIZER.sot_sequence("en")
    found, wanted = (which(folders[4], 5, start) for which in (ours, theirs))
    lengths = [(len(a.tokens), len(b.sequences_ids[0])) for a, b in zip(found, wanted, strict=True)]
    assert all(mine < other for mine, other in lengths)
