"""Dividing by priors: against the definition, and through the command's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mynah.config import as_dict, build  # noqa: E402
from mynah.errors import InputError  # noqa: E402
from mynah.export.priors import divide_by_priors, fold_priors, unit_priors  # noqa: E402
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder  # noqa: E402
from mynah.models.load import load_model  # noqa: E402
from mynah.models.u2.model import U2, U2Config  # noqa: E402
from mynah.nn.weights import write_weights  # noqa: E402
from mynah.text import char_tokenizer  # noqa: E402


def make_model() -> U2:
    torch.manual_seed(1)
    values = {
        "vocab_size": 5, "feature_dim": 20,
        "encoder": {"dim": 16, "heads": 2, "layers": 1, "hidden": 16, "subsampling_channels": 4},
        "decoder": {"layers": 0},
    }  # fmt: skip
    return U2(build(U2Config, values)).eval()


def test_the_quotient_of_what_is_heard() -> None:
    model = make_model()
    encoded = torch.randn(1, 6, 16)
    before = model.ctc_log_probs(encoded)[0].detach().double().numpy()
    priors = np.array([0.6, 0.2, 0.15, 0.05, 0.0])
    divide_by_priors(model, priors, 0.5)
    after = model.ctc_log_probs(encoded)[0].detach().double().numpy()
    share = priors[1:4] / 0.4
    taken = 0.5 * np.log(share)
    taken -= (share * taken).sum()
    wanted = before.copy()
    wanted[:, 1:4] -= taken  # the blank, and what is never heard, keep theirs
    wanted -= np.logaddexp.reduce(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(after, wanted, atol=1e-5)
    assert abs((share * taken).sum()) < 1e-12


def test_a_folder_divided_by_what_it_hears(tmp_path: Path) -> None:
    model, tokenizer = make_model(), char_tokenizer(["ab"])
    info = ModelInfo(
        family="u2", name="x", sample_rate=16000, config=as_dict(model.config),
        frontend={"kind": "fbank", "num_mels": 20}, tokenizer=tokenizer.to_dict(),
    )  # fmt: skip
    with write_model_folder(tmp_path / "a", info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
        (work / "tokenizer").mkdir()
        tokenizer.save(work / "tokenizer")
    source = read_model_folder(tmp_path / "a")
    rng = np.random.default_rng(0)
    sounds = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in (8000, 16000)]
    priors = fold_priors(source, tmp_path / "b", sounds, 1.0)
    assert priors.sum() == pytest.approx(1.0)
    divided = load_model(read_model_folder(tmp_path / "b"))
    assert isinstance(divided, U2) and (tmp_path / "b" / "tokenizer" / "units.txt").is_file()
    from mynah.audio.features import make_frontend

    again = unit_priors(divided, make_frontend(info.frontend), sounds)
    spread = [float(np.ptp(np.log(p[1:] / p[1:].sum()))) for p in (priors, again)]
    assert spread[1] < spread[0]  # nearer to each other than they were
    with pytest.raises(InputError, match="no sound"):
        fold_priors(source, tmp_path / "c", [], 1.0)
    assert not (tmp_path / "c").exists()
