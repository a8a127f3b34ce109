"""Training of a tiny Whisper: two clips by heart, adapters alone, frozen parts, whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mynah.config import build, override  # noqa: E402
from mynah.errors import ConfigError, InputError, ModelError  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.models.load import load_model  # noqa: E402
from mynah.models.whisper.convert import import_whisper  # noqa: E402
from mynah.nn.weights import read_weights  # noqa: E402
from mynah.runtime.whisper.engine import load_whisper_engine  # noqa: E402
from mynah.training.config import TrainConfig  # noqa: E402
from mynah.training.distributed import Workers  # noqa: E402
from mynah.training.prepare import Setup, prepare  # noqa: E402
from mynah.training.run import train  # noqa: E402
from mynah.training.task import Place  # noqa: E402

ALONE = Workers(0, 1, torch.device("cpu"))
DIMS = {"n_audio_ctx": 500, "n_audio_state": 32, "n_audio_head": 2, "n_audio_layer": 2,
        "n_text_ctx": 96, "n_text_state": 32, "n_text_head": 2, "n_text_layer": 1}  # fmt: skip
TINY: dict[str, Any] = {
    "seed": 3,
    "task": {"kind": "whisper", "language": "en", "context": "short", "margin": 0.1,
             "max_new_tokens": 40},
    "data": {
        "train": [{"manifest": "manifest.tsv", "where": {"split": "train"}, "limit": 2}],
        "dev": [{"manifest": "manifest.tsv", "where": {"split": "train"}, "limit": 2}],
        "text": "lower",
        "speed": [1.0],
    },
    "tokenizer": {"kind": "whisper", "tokens": 280},
    "model": {"dims": DIMS},
    "optim": {"lr": 3e-3},
    "loop": {"max_steps": 4, "log_every": 1, "save_every": 1, "keep_last": 9,
             "tensorboard": False},
    "schedule": {"kind": "constant", "warmup": 10},
}  # fmt: skip


def tiny(speech: Path, *assignments: str) -> TrainConfig:
    return build(TrainConfig, override(TINY, [f"data.root={speech}", *assignments]))


def ready(config: TrainConfig, out: Path) -> tuple[Setup, Any]:
    """Everything made, and the first batch."""
    setup = prepare(config, out, ALONE)
    return setup, next(b for b in setup.train.epoch(0) if b is not None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint, imported."""
    folder = tmp_path_factory.mktemp("base")
    dims = files.WhisperDims(80, 500, 32, 2, 2, files.TOKENS, 96, 32, 2, 1)
    tensors = files.random_tensors(dims, seed=4)
    source = files.write_huggingface(folder / "hf", tensors, dims)
    return import_whisper(source, folder / "model", weights="fp16")


def start(base: Path, *assignments: str) -> list[str]:
    """Settings that start from it, with adapters."""
    lora = '{rank = 2, alpha = 4.0, layers = ["*.query", "*.mlp.0"]}'
    return [f"init={base}", "model={}", "tokenizer={}", f"lora={lora}", *assignments]


def test_two_clips_are_learnt_by_heart(speech: Path, tmp_path: Path) -> None:
    setup, batch = ready(tiny(speech, "task.timestamps=0.0"), tmp_path)
    task = setup.task
    optimizer = torch.optim.Adam(task.model.parameters(), 4e-3)
    with torch.no_grad():
        before = task.scores(task.evaluate(batch))
    assert before["error_rate"] > 0.5
    for step in range(1, 200):
        losses = task.losses(batch, "recognizer", Place(1, step, 0))
        assert losses.counts["tokens"] == int((batch.token_lens - 4).sum()), "prompts are masked"
        (losses.total / losses.counts["tokens"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if float(losses.total.detach()) / losses.counts["tokens"] < 0.05:
            break
    task.model.eval()
    with torch.no_grad():
        scores = task.scores(task.evaluate(batch))
    assert scores["error_rate"] == 0.0 and scores["loss"] < 0.1


def test_neighbours_and_padding_do_not_matter(speech: Path, tmp_path: Path) -> None:
    setup, batch = ready(tiny(speech), tmp_path)
    assert len(set(batch.feat_lens.tolist())) == 2, "they differ in length"
    setup.task.model.eval()
    together = setup.task.losses(batch, "recognizer", Place(1, 1, 0))
    alone = 0.0
    for row in range(2):
        size, count = int(batch.feat_lens[row]), int(batch.token_lens[row])
        one = type(batch)(
            ids=batch.ids[row : row + 1],
            feats=batch.feats[row : row + 1, :size],
            feat_lens=batch.feat_lens[row : row + 1],
            tokens=batch.tokens[row : row + 1, :count],
            token_lens=batch.token_lens[row : row + 1],
            texts=batch.texts[row : row + 1],
        )
        alone += float(setup.task.losses(one, "recognizer", Place(1, 1, 0)).total.detach())
    assert float(together.total.detach()) == pytest.approx(alone, rel=1e-5)


def test_the_exact_window_is_heard_by_default(speech: Path, tmp_path: Path) -> None:
    from mynah.audio import read
    from mynah.audio.features import make_frontend

    setup, batch = ready(
        tiny(speech, "task.context=window", "data.max_frames=2000", "data.train.0.limit=5"),
        tmp_path,
    )
    assert batch.feats.shape == (2, 1000, 80), "10 s each, and two of them in 2000 frames"
    assert batch.feat_lens.tolist() == [1000, 1000]
    sound = read(speech / f"{batch.ids[0]}.flac", rate=16_000)
    samples = sound.samples if hasattr(sound, "samples") else sound
    padded = np.zeros(160_000, np.float32)
    flat = np.asarray(samples, np.float32).reshape(-1)
    padded[: len(flat)] = flat
    wanted = make_frontend({"kind": "whisper"})(padded)
    np.testing.assert_array_equal(batch.feats[0].numpy(), wanted)
    assert setup.template.frontend == {"kind": "whisper", "num_mels": 80, "rate": 16_000}


def test_only_adapters_have_gradients(speech: Path, base: Path, tmp_path: Path) -> None:
    setup, batch = ready(tiny(speech, *start(base)), tmp_path)
    model = setup.task.model
    setup.task.losses(batch, "recognizer", Place(1, 1, 0)).total.backward()
    got = {name for name, p in model.named_parameters() if p.grad is not None}
    layers = [f"encoder.blocks.{i}.{part}" for i in (0, 1) for part in ("attn.query", "mlp.0")]
    layers += [f"decoder.blocks.0.{part}" for part in ("attn.query", "cross_attn.query", "mlp.0")]
    assert got == {f"{layer}.{part}" for layer in layers for part in ("lora_down", "lora_up")}
    assert any("7 layers adapted, rank 2" in note for note in setup.notes)


def test_adapters_merged_are_adapters(speech: Path, base: Path, tmp_path: Path) -> None:
    config = tiny(speech, *start(base), 'task.graphs=["fp32"]')
    assert train(config, tmp_path / "run", device="cpu", threads=1)
    kept = read_weights(tmp_path / "run" / "checkpoints" / "step-00000004" / "model.safetensors")
    assert {name.rpartition(".")[2] for name in kept} == {"lora_down", "lora_up", "lora_base"}
    published = read_model_folder(tmp_path / "run" / "model")
    assert published.info.family == "whisper"
    assert published.info.config == read_model_folder(base).info.config
    plain = load_model(published)
    assert not any("lora" in name for name in plain.state_dict())
    # the averaged adapters over the base give the logits of the published weights
    setup = prepare(config, tmp_path / "run", ALONE)
    from mynah.nn.lora import restore
    from mynah.training.checkpoint import CheckpointFolder, average

    best = CheckpointFolder(tmp_path / "run" / "checkpoints").best(5, "error_rate")
    tensors = average(best)
    assert float(tensors["decoder.blocks.0.mlp.0.lora_up"].abs().max()) > 0
    restore(setup.task.model, tensors, "run")
    torch.manual_seed(1)
    mels, tokens = torch.randn(2, 80, 300), torch.randint(0, files.TOKENS, (2, 9))
    with torch.no_grad():
        adapted = setup.task.model.eval()(mels, None, tokens)
        torch.testing.assert_close(plain(mels, None, tokens), adapted, atol=1e-4, rtol=1e-4)
        # and so do the graphs that were written beside them
        mels, tokens = torch.randn(2, 80, 1000), tokens[:, :5]
        wanted = plain(mels, None, tokens)[:, -1].numpy()
    for name in ("onnx", "torch"):
        engine = load_whisper_engine(published, engine=name, precision="fp32", device="cpu")
        decoder = engine.decoder(engine.encode(mels.numpy()), [0, 1])
        np.testing.assert_allclose(decoder(tokens.numpy()), wanted, atol=1e-3)
    # they are not taken for those of other weights
    with pytest.raises(ModelError, match="made for other weights than those of init"):
        restore(setup.task.model, {**tensors, "lora_base": tensors["lora_base"] ^ 1}, "run")


@pytest.mark.parametrize("adapted", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(
    speech: Path, base: Path, tmp_path: Path, adapted: bool
) -> None:
    settings = start(base) if adapted else []
    settings += ["task.timestamps=0.5", "data.train.0.limit=5", "data.max_frames=700"]
    settings += ["data.spec_augment={}", "loop.accumulate=2", "data.dev=[]"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert train(tiny(speech, *settings), straight, device="cpu", threads=1)
    assert train(tiny(speech, *settings, "loop.max_steps=2"), broken, device="cpu", threads=1)
    assert train(tiny(speech, *settings), broken, device="cpu", threads=1)
    for name in ("model.safetensors", "optimizer.safetensors"):
        place = Path("checkpoints") / "step-00000004" / name
        assert (straight / place).read_bytes() == (broken / place).read_bytes(), name


def test_frozen_parts_do_not_move(speech: Path, tmp_path: Path) -> None:
    setup, batch = ready(tiny(speech, 'freeze=["encoder"]'), tmp_path / "a")
    setup.task.losses(batch, "recognizer", Place(1, 1, 0)).total.backward()
    for name, parameter in setup.task.model.named_parameters():
        assert (parameter.grad is None) is name.startswith("encoder."), name
    setup, batch = ready(tiny(speech, "task.frozen_layers=1"), tmp_path / "b")
    setup.task.losses(batch, "recognizer", Place(1, 1, 0)).total.backward()
    still = ("encoder.conv1.", "encoder.conv2.", "encoder.blocks.0.")
    for name, parameter in setup.task.model.named_parameters():
        assert (parameter.grad is None) is name.startswith(still), name


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"language": "klingon"}, "language: 'klingon' is not known"),
        ({"language": "fr"}, "this model does not know 'fr'"),
        ({"task": "sing"}, "task 'sing', which is none of transcribe, translate"),
    ],
)
def test_a_manifest_with_wrong_columns(
    speech: Path, tmp_path: Path, columns: dict[str, str], message: str
) -> None:
    path = tmp_path / "manifest.jsonl"
    row = {"id": "u1", "path": str(speech / "awb_1.flac"), "text": "some words", "duration": 2.0}
    path.write_text("\n".join(map(json.dumps, [row, {**row, "id": "u2", **columns}])), "utf-8")
    source = f'[{{ manifest = "{path}" }}]'
    config = tiny(speech, f"data.train={source}", "data.dev=[]")
    with pytest.raises(InputError, match=f"manifest.jsonl: u2 has .*{message}") as caught:
        train(config, tmp_path / "run", device="cpu", threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["cmvn=auto"], "cmvn: the task whisper has none"),
        (["frontend.kind=fbank"], 'frontend: the task whisper takes kind "whisper"'),
        (["tokenizer.kind=char"], "tokenizer.kind: 'char' is none of whisper"),
        (["tokenizer.tokens=100"], "tokens: every byte is one, so at least 256, got 100"),
        (["task.frozen_layers=3"], "task.frozen_layers: the encoder has 2 layers, not 3"),
        (["evaluate.method=rescoring"], "evaluate: the task whisper decodes greedily"),
        (["model.dims.n_mels=128"], "model.dims.n_mels: 128 in the recipe or init, 80 by the fr"),
        (["task.smoothing=1.0"], "task: smoothing: must be from 0 to below 1"),
        (["lora={}"], "lora: adapts the weights of init, which is not given"),
    ],
)
def test_wrong_recipes(speech: Path, tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tiny(speech, *settings), tmp_path / "run", device="cpu", threads=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (['lora.layers=["*.quary"]'], "no linear layer is called '\\*.quary'; there are \\*.0"),
        (["tokenizer.kind=whisper"], "tokenizer: init brings its own"),
        (['freeze=["encoder"]'], "lora: trains adapters alone"),
    ],
)
def test_wrong_recipes_with_adapters(
    speech: Path, base: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tiny(speech, *start(base, *settings)), tmp_path / "run", device="cpu", threads=1)
