"""The weights to train on are those of the bundled recogniser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mynah.audio import read
from mynah.model_folder import read_model_folder
from mynah.runtime.recognizer import load

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
FOLDER = Path(__file__).parents[2] / "recipes" / "english" / "trainable"


def test_they_hear_what_the_bundled_ones_hear(repository: Path) -> None:
    from mynah.models.load import load_model

    folder, bundled = read_model_folder(FOLDER), load().model
    assert folder.info.name == bundled.name and folder.info.license == "Apache-2.0"
    network = load_model(folder).eval()
    sound = read(repository / "examples" / "mynah_bird.flac", rate=bundled.rate).samples
    feats = bundled.frontend(sound)
    lens = np.array([len(feats)], np.int64)
    out = bundled.engine.encode(feats[None], lens)
    theirs = out.log_probs[0, : int(out.lens[0])]
    with torch.no_grad():
        encoded, _, _ = network(torch.from_numpy(feats[None]), torch.from_numpy(lens))
        ours = network.ctc_log_probs(encoded)[0].float().numpy()
    assert ours.shape == theirs.shape and len(ours) > 50
    # priors move phones a little, blanks not at all
    assert np.abs(np.exp(ours[:, 0]) - np.exp(theirs[:, 0])).mean() < 0.05
    heard = ours[:, 0] < np.log(0.5)
    same = ours[heard, 1:40].argmax(1) == theirs[heard, 1:40].argmax(1)
    assert heard.sum() > 20 and same.mean() > 0.9


def test_they_are_whole_and_in_fp16() -> None:
    from safetensors.numpy import load_file

    weights = load_file(read_model_folder(FOLDER).file("weights.safetensors"))
    kinds = {value.dtype for value in weights.values() if value.dtype.kind == "f"}
    assert kinds == {np.dtype(np.float16)}
    assert all(np.isfinite(value).all() for value in weights.values())
