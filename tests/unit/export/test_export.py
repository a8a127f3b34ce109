"""From a model folder with weights to graphs: as PyTorch, whole and streamed, in any batch."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("safetensors")

from mynah.cli import main  # noqa: E402
from mynah.config import as_dict  # noqa: E402
from mynah.errors import ConfigError, ModelError  # noqa: E402
from mynah.export.folder import compare, export_folder  # noqa: E402
from mynah.export.onnx import facts, parts, save, to_onnx  # noqa: E402
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder  # noqa: E402
from mynah.models.load import write_weights  # noqa: E402
from mynah.models.u2.model import U2, DecoderConfig, EncoderConfig, U2Config  # noqa: E402
from mynah.runtime.engine import Engine, load_engine  # noqa: E402

BINS, UNITS, CHUNK, LEFT = 80, 37, 4, 2
ENCODER = EncoderConfig(dim=24, heads=2, layers=2, hidden=48, kernel=5, dropout=0.0)
DECODER = DecoderConfig(layers=2, reverse_layers=1, heads=2, hidden=48)
MODELS = {
    "u2pp": U2Config(UNITS, BINS, encoder=ENCODER, decoder=DECODER),
    "offline": U2Config(
        UNITS,
        BINS,
        encoder=EncoderConfig(
            dim=24, heads=2, layers=2, hidden=48, kernel=5, subsampling=6,
            convolution="symmetric", convolution_norm="batch", positions="relative",
        ),
        decoder=DecoderConfig(layers=0),
    ),
}  # fmt: skip


def make(path: Path, config: U2Config) -> Path:
    torch.manual_seed(1)
    model = U2(config)
    model.istd.fill_(0.9)  # normalised features: the subsampling is quantised, too
    info = ModelInfo("u2", path.name, 16000, config=as_dict(config))
    with write_model_folder(path, info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {}
    for name, config in MODELS.items():
        made[name] = root / f"{name}-exported"
        export_folder(read_model_folder(make(root / name, config)), made[name], weights=True)
    return made


def engine(folder: Path, name: str, precision: str = "fp32") -> Engine:
    return load_engine(folder, name, precision=precision)


def feats(batch: int, frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, frames, BINS)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_fp32_is_the_model(folders: dict[str, Path], name: str) -> None:
    onnx, reference = engine(folders[name], "onnx"), engine(folders[name], "torch")
    x, lens = feats(3, 90), np.array([90, 41, 64])
    ours, theirs = onnx.encode(x, lens), reference.encode(x, lens)
    np.testing.assert_array_equal(ours.lens, theirs.lens)
    for b, n in enumerate(ours.lens):
        np.testing.assert_allclose(ours.encoded[b, :n], theirs.encoded[b, :n], atol=1e-4)
        np.testing.assert_allclose(ours.log_probs[b, :n], theirs.log_probs[b, :n], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_and_search_steps(folders: dict[str, Path], precision: str) -> None:
    onnx, reference = engine(folders["u2pp"], "onnx", precision), engine(folders["u2pp"], "torch")
    atol = 1e-4 if precision == "fp32" else 0.3
    whole = reference.encode(feats(2, 90), np.array([90, 60]))
    tokens = np.random.default_rng(3).integers(1, UNITS - 1, (2, 3, 6))
    token_lens = np.array([[6, 4, 0], [2, 6, 1]])
    for ours, theirs in zip(
        onnx.score(whole.encoded, whole.lens, tokens, token_lens),
        reference.score(whole.encoded, whole.lens, tokens, token_lens),
        strict=True,
    ):
        assert ours is not None and theirs is not None
        np.testing.assert_allclose(ours, theirs, atol=atol)
    steps = [e.attention(whole.encoded[0, : whole.lens[0]], 5) for e in (onnx, reference)]
    for chosen, parents in [([36], [0]), ([3, 4], [0, 0]), ([5, 6, 7], [1, 1, 0])]:
        ours, theirs = (step(np.array(chosen), np.array(parents)) for step in steps)
        np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_batch_mates_do_not_matter(folders: dict[str, Path], precision: str) -> None:
    onnx = engine(folders["u2pp"], "onnx", precision)
    x, lens = feats(3, 120), np.array([120, 33, 77])
    x[1] *= 20  # a loud batch-mate
    together = onnx.encode(x, lens)
    for b, n in enumerate(lens):
        alone = onnx.encode(x[b : b + 1, :n], np.array([n]))
        count = alone.lens[0]
        assert count == together.lens[b]
        np.testing.assert_allclose(
            alone.log_probs[0, :count], together.log_probs[b, :count], atol=1e-4
        )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_sessions_join_and_leave(folders: dict[str, Path], precision: str) -> None:
    """Streams stepped together, ragged and by rows of nothing, equal each stepped alone."""
    onnx = engine(folders["u2pp"], "onnx", precision)
    x, capacity = feats(3, 100, seed=5), CHUNK * LEFT
    first, hop = (CHUNK - 1) * onnx.subsampling + onnx.overlap + 1, CHUNK * onnx.subsampling
    bounds = [0, *range(first, 100, hop), 100]

    def alone(b: int) -> np.ndarray:
        state, out = onnx.init_state(1, capacity), []
        for begin, end in itertools.pairwise(bounds):
            step = onnx.encode(x[b : b + 1, begin:end], np.array([end - begin]), state)
            out.append(step.log_probs[0, : step.lens[0]])
            state = step.state
        return np.concatenate(out)

    state, at = onnx.init_state(3, capacity), [0, 0, 0]
    found: list[list[np.ndarray]] = [[], [], []]
    turn = 0
    while min(at) < len(bounds) - 1:
        ready = [b for b in range(3) if at[b] < len(bounds) - 1 and (turn + b) % (b + 1) == 0]
        lens = np.zeros(3, np.int64)
        batch = np.full((3, first, BINS), 7.0, np.float32)  # what lies beyond a row's length
        for b in ready:
            begin, end = bounds[at[b]], bounds[at[b] + 1]
            batch[b, : end - begin], lens[b] = x[b, begin:end], end - begin
            at[b] += 1
        step = onnx.encode(batch, lens, state)
        state, turn = step.state, turn + 1
        for b in ready:
            found[b].append(step.log_probs[b, : step.lens[b]])
    for b in range(3):
        np.testing.assert_allclose(np.concatenate(found[b]), alone(b), atol=1e-4)


def test_streamed_graph_equals_masked_whole(folders: dict[str, Path]) -> None:
    onnx = engine(folders["u2pp"], "onnx")
    torch.manual_seed(1)
    model = U2(MODELS["u2pp"]).eval()
    model.istd.fill_(0.9)
    x = feats(1, 103, seed=2)
    with torch.no_grad():
        encoded, lens, _ = model(torch.from_numpy(x), torch.tensor([103]), chunk=CHUNK, left=LEFT)
    state, begin, out = onnx.init_state(1, CHUNK * LEFT), 0, []
    end = (CHUNK - 1) * onnx.subsampling + onnx.overlap + 1
    while begin < 103:
        part = x[:, begin:end]
        step = onnx.encode(part, np.array([part.shape[1]]), state)
        out.append(step.encoded[0, : step.lens[0]])
        state, begin, end = step.state, end, end + CHUNK * onnx.subsampling
    np.testing.assert_allclose(np.concatenate(out), encoded[0, : lens[0]].numpy(), atol=1e-4)


def test_int8_is_close_and_small(folders: dict[str, Path]) -> None:
    exact, rounded = (engine(folders["u2pp"], "onnx", p) for p in ("fp32", "int8"))
    x, lens = feats(2, 200), np.array([200, 200])
    difference = exact.encode(x, lens).log_probs - rounded.encode(x, lens).log_probs
    assert 0 < np.abs(difference).mean() < 0.05
    folder = read_model_folder(folders["u2pp"])
    size = {p: folder.file(f"onnx/encoder.{p}.onnx").stat().st_size for p in ("fp32", "int8")}
    assert size["int8"] < size["fp32"]


def test_a_graph_that_gives_nan_is_noticed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = U2(MODELS["offline"]).eval()
    part = parts(model)["encoder"]
    with torch.no_grad():
        model.ctc.bias[3] = float("nan")
    path = tmp_path / "encoder.onnx"
    save(to_onnx(part, facts(model)), path)
    with torch.no_grad():
        model.ctc.bias[3] = 0.0
    assert not compare(part, path) < 1e9


def test_in_place_nothing_is_lost(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["offline"], tmp_path / "mine")
    assert main(["export", str(tmp_path / "mine"), str(tmp_path / "mine")]) == 0
    assert read_model_folder(tmp_path / "mine").has("weights.safetensors")


def test_what_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    assert main(["export", str(folders["u2pp"]), str(tmp_path / "a"), "--precision", "int8"]) == 0
    bare = read_model_folder(tmp_path / "a")
    assert not bare.has("weights.safetensors")
    assert not bare.has("onnx/encoder.fp32.onnx")
    with pytest.raises(ModelError, match=r"has no weights\.safetensors"):
        load_engine(bare, "torch")
    with pytest.raises(ModelError, match="has graphs in int8 alone, not in fp32"):
        load_engine(bare, "onnx", precision="fp32")
    with pytest.raises(ConfigError, match="device: 'tpu'"):
        load_engine(folders["u2pp"], "torch", device="tpu")
    assert main(["export", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert not (tmp_path / "b").exists()
