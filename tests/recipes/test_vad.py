"""The detector's road on the committed recordings: train, export, find speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from mynah import audio  # noqa: E402
from mynah.audio.noises import made_noise  # noqa: E402
from mynah.cli import main  # noqa: E402
from mynah.corpus import write_tsv  # noqa: E402
from mynah.errors import ModelError  # noqa: E402
from mynah.export import vad as export  # noqa: E402
from mynah.export.folder import compare  # noqa: E402
from mynah.export.onnx import save, to_onnx  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.models.load import load_model  # noqa: E402
from mynah.models.vad.model import Vad, VadConfig  # noqa: E402
from mynah.runtime.engine import Graph  # noqa: E402
from mynah.runtime.vad import load_vad  # noqa: E402

TINY = """
seed = 3
cmvn_utterances = 3
[task]
kind = "vad"
[task.scene]
seconds = 3.0
noise = { manifest = "noise/manifest.tsv" }
[model]
family = "vad"
dim = 8
[frontend]
num_mels = 12
frame_length = 32.0
frame_shift = 16.0
snip_edges = false
[data]
train = [{ manifest = "speech/manifest.tsv", where = { split = "train" } }]
dev = [{ manifest = "speech/manifest.tsv", where = { split = "dev" } }]
max_items = 4
speed = [1.0]
[loop]
max_steps = 2
divide_by = "tokens"
log_every = 1
tensorboard = false
[card]
name = "tiny-vad"
"""


@pytest.fixture
def root(speech: Path, tmp_path: Path) -> Path:
    """Speech and two noises under one root."""
    (tmp_path / "speech").symlink_to(speech)
    (tmp_path / "noise").mkdir()
    rows = []
    for number in range(2):
        rng = np.random.default_rng(number)
        audio.write(tmp_path / f"noise/{number}.wav", 0.1 * made_noise(rng, 16000, 16000), 16000)
        rows.append({"id": str(number), "path": f"{number}.wav", "duration": 1.0, "text": ""})
    write_tsv(tmp_path / "noise" / "manifest.tsv", rows)
    (tmp_path / "tiny.toml").write_text(TINY)
    return tmp_path


def test_train_export_find(root: Path, speech: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    run, exported = root / "run", root / "exported"
    command = ["train", str(root / "tiny.toml"), f"data.root={root}", "--out", str(run)]
    assert main([*command, "--device", "cpu"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "step 2  epoch" in said and "entropy" in said and "threshold" in said
    folder = read_model_folder(run / "model")
    assert folder.info.family == "vad" and folder.info.tokenizer == {}
    assert not any(name.startswith("tokenizer") for name in folder.files)

    assert main(["export", str(run / "model"), str(exported)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert main(["export", str(run / "model"), str(root / "x"), "--precision", "int8"]) == 2
    assert "the family vad has no int8 graphs" in capsys.readouterr().err

    vad, model = load_vad(exported), load_model(folder)
    samples = audio.read(speech / "awb_1.flac", rate=16000).samples
    feats = torch.from_numpy(vad.frontend(samples))[None]
    with torch.no_grad():
        logits, _, _ = model(feats, torch.tensor([feats.shape[1]]))
    delay = model.config.delay
    probs = vad.probabilities(samples)
    assert probs.shape == (feats.shape[1],)
    assert np.allclose(probs[:-delay], torch.sigmoid(logits)[0, delay:], atol=1e-5)
    assert main(["segments", str(speech / "awb_1.flac"), "--model", str(exported)]) == 0
    with pytest.raises(ModelError, match="detector.fp32.onnx"):
        load_vad(run / "model")


@pytest.mark.parametrize(("layers", "kernel"), [(1, 1), (2, 3), (3, 5)])
def test_the_written_graph_is_the_model(tmp_path: Path, layers: int, kernel: int) -> None:
    torch.manual_seed(layers)
    model = Vad(VadConfig(feature_dim=6, dim=8, layers=layers, kernel=kernel, floor=-0.5)).eval()
    model.mean.normal_()
    model.istd.uniform_(0.5, 1.5)
    part = export.parts(model)["detector"]
    save(to_onnx(part, export.facts(model)), tmp_path / "graph.onnx")
    assert compare(part, tmp_path / "graph.onnx") < 1e-5
    graph = Graph(tmp_path / "graph.onnx", 1)
    state = model.init_state(1)
    values = {"state.overlap": state.overlap.numpy(), "state.hidden": state.hidden.numpy()}
    found = graph.run({**values, "feats": np.full((1, 1, 6), -9.0, np.float32)})
    raised = graph.run({**values, "feats": np.full((1, 1, 6), -0.5, np.float32)})
    assert np.array_equal(found["probs"], raised["probs"]), "the floor"


def test_what_does_not_fit_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", str(root / "tiny.toml"), f"data.root={root}", "--out", str(root / "run")]
    for wrong, message in (
        ("tokenizer.kind=char", "tokenizer: this task labels frames, not text"),
        ("data.noise={manifest='noise/manifest.tsv'}", "data.noise: the scenes of this task"),
        ("task.scene.silent=2", "task.scene: silent: must be between 0 and 1"),
    ):
        assert main([*command, "--fresh", wrong]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
