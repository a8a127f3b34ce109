"""The PyTorch engine of Whisper against a plain float64 one; graphs are played by a stand-in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import Reference, random_whisper

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from mynah.decoding.whisper_rules import Rules  # noqa: E402
from mynah.decoding.whisper_search import beam_search  # noqa: E402
from mynah.errors import ConfigError, ModelError  # noqa: E402
from mynah.export import whisper_torch  # noqa: E402
from mynah.export.whisper_torch import TorchWhisper  # noqa: E402
from mynah.model_folder import read_model_folder  # noqa: E402
from mynah.models.whisper.model import Whisper  # noqa: E402
from mynah.nn.weights import fill  # noqa: E402
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims  # noqa: E402

DIMS = WhisperDims(80, 60, 32, 2, 1, files.TOKENS, 96, 32, 2, 2)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")


@pytest.fixture(scope="module")
def pair() -> tuple[Reference, Whisper]:
    dims, tensors = random_whisper(DIMS, seed=7)
    model = Whisper(WhisperConfig(dims))
    fill(model, {name: torch.from_numpy(value) for name, value in tensors.items()}, "random")
    return Reference(dims, tensors), model


@pytest.fixture
def mels() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal((3, 80, 80)).astype(np.float32)


class Recorder:
    """Plays a captured step: the same buffers are read and written whenever it runs."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.replays = 0

    def __call__(self, run: Any) -> Any:
        logits = run()
        self.made.append(tuple(logits.shape))

        def replay() -> None:
            self.replays += 1
            logits.copy_(run())

        return replay, logits


def pretend(monkeypatch: pytest.MonkeyPatch, engine: TorchWhisper) -> Recorder:
    """Let the engine capture its steps."""
    recorder = Recorder()
    monkeypatch.setattr(engine._pool, "_record", recorder)
    return recorder


# tokens of each call and whom they continue: hypotheses that part, change places and end
SCRIPT: Sequence[tuple[int, Sequence[int] | None]] = (
    (4, None),
    (1, [0, 0, 1, 1, 2, 2]),
    (1, None),
    (1, [1, 0, 2, 2, 5, 4]),
    (1, [0, 1, 2, 3, 4, 5]),
    (2, [0, 0, 2, 3, 5, 5]),
    (1, [0, 1, 3]),
    (1, [0, 1, 1, 2]),
    (1, None),
    (1, [3, 0, 0, 1]),
)


def play(decoders: Sequence[Any], every: bool, vocab: int) -> None:
    rng, count = np.random.default_rng(3), 3
    for size, parents in SCRIPT:
        count = count if parents is None else len(parents)
        tokens = rng.integers(0, vocab, (count, size))
        order = None if parents is None else np.array(parents)
        wanted, found = (d(tokens, order, every=every) for d in decoders)
        assert found.shape == wanted.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_the_same_logits_as_the_reference(
    pair: tuple[Reference, Whisper],
    mels: np.ndarray[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    graphs: bool,
    every: bool,
) -> None:
    reference, model = pair
    engine = TorchWhisper(model, "fp32")
    recorder = pretend(monkeypatch, engine) if graphs else Recorder()
    heard = engine.encode(mels), reference.encode(mels)
    np.testing.assert_allclose(heard[0].output, heard[1].output, atol=1e-4)
    assert heard[0].frames == heard[1].frames == 40
    for _ in range(3):  # the second time buffers and graphs are used again
        play([reference.decoder(heard[1], [0, 1, 2], 20), engine.decoder(heard[0], [0, 1, 2], 20)],
             every, DIMS.n_vocab)  # fmt: skip
    other = mels[::-1].copy()
    again = engine.encode(other), reference.encode(other)
    play([reference.decoder(again[1], [2, 0, 1], 20), engine.decoder(again[0], [2, 0, 1], 20)],
         every, DIMS.n_vocab)  # fmt: skip
    assert bool(recorder.made) is graphs and len(set(recorder.made)) == len(recorder.made)
    assert recorder.replays >= 10 * graphs


def copied(model: Whisper, device: str, precision: str) -> TorchWhisper:
    copy = Whisper(model.config).to(device, whisper_torch.PRECISIONS[precision])
    copy.load_state_dict(model.state_dict())
    return TorchWhisper(copy, precision)


def test_windows_that_end_leave_few_shapes_and_long_pasts_are_read_in_parts(
    pair: tuple[Reference, Whisper], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, model = pair
    engine = copied(model, "cpu", "fp32")
    recorder = pretend(monkeypatch, engine)
    many = np.random.default_rng(8).standard_normal((5, 80, 20)).astype(np.float32)
    decoders = [one.decoder(one.encode(many), range(5)) for one in (reference, engine)]
    live, order = 5, None
    for number in range(80):  # a window ends now and then, over 64 tokens
        if number in (12, 24, 36, 48):
            order = np.delete(np.arange(live), number % live)
            live -= 1
        tokens = np.random.default_rng(number).integers(0, DIMS.n_vocab, (live, 1))
        wanted, found = (one(tokens, order) for one in decoders)
        np.testing.assert_allclose(found, wanted, atol=2e-4, rtol=1e-4)
        order = None
    windows = [shape[0] for shape in recorder.made]
    assert windows == [8, 4, 2, 1, 1]  # the last is the one past 64


def test_a_beam_says_what_the_reference_says(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, model = pair
    engine = copied(model, "cpu", "fp32")
    recorder = pretend(monkeypatch, engine)
    wanted, found = (searched(one, mels) for one in (reference, engine))
    assert found == wanted
    assert recorder.replays > 5


def searched(engine: Any, mels: np.ndarray[Any, Any]) -> list[list[tuple[int, ...]]]:
    """The texts of a beam of 3 in the order of their ends."""
    step = engine.decoder(engine.encode(mels), range(len(mels)))
    first = step.predict(np.tile(np.array([1, 2, 3]), (len(mels), 1)))

    def after(tokens: Any, parents: Any) -> Any:
        return step.predict(tokens[:, None], parents)

    given, rules = np.zeros((len(mels), 0), np.int64), Rules(7, DIMS.n_vocab, timestamps=False)
    found = beam_search(first, after, rules, given, limit=20, beam=3)
    return [[text.tokens for text in texts] for texts in found]


def test_joined_projections_are_the_same(pair: tuple[Reference, Whisper]) -> None:
    plain = Whisper(pair[1].config)
    plain.load_state_dict(pair[1].state_dict())
    attention = plain.decoder.blocks[0].attn
    x = torch.randn(2, 3, DIMS.n_text_state)
    with torch.no_grad():
        apart = attention.queries_keys_values(x)
        before = {name: value.clone() for name, value in plain.state_dict().items()}
        plain.decoder.join()
        torch.testing.assert_close(attention.queries_keys_values(x), apart)
    after = plain.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    weight, bias = attention.joined
    assert attention.key.weight.data_ptr() == weight[DIMS.n_text_state :].data_ptr()
    assert not bias[DIMS.n_text_state : 2 * DIMS.n_text_state].any()


def test_two_decoders_at_once_do_not_share_buffers(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]
) -> None:
    engine = TorchWhisper(pair[1], "fp32")
    heard = engine.encode(mels)
    first, second = (engine.decoder(heard, [0, 1], 12) for _ in range(2))
    tokens = np.array([[1, 2, 3], [4, 5, 6]])
    a = first(tokens)
    second(tokens[::-1])
    follow = np.array([[7], [8]])
    b = first(follow)
    third = engine.decoder(heard, [0, 1], 12)
    np.testing.assert_array_equal(third(tokens), a)
    np.testing.assert_array_equal(third(follow), b)
    np.testing.assert_allclose(  # alone as beside another
        engine.decoder(heard, [1])(np.concatenate([tokens, follow], 1)[1:]), b[1:], atol=1e-4
    )


def test_alignment_and_capacity(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]
) -> None:
    reference, model = pair
    engine = TorchWhisper(model, "fp32")
    rows, heads = [0, 0, 2], [(1, 0), (0, 1), (1, 1)]
    tokens = np.random.default_rng(5).integers(0, DIMS.n_vocab, (3, 7))
    wanted = reference.decoder(reference.encode(mels), rows).align(tokens, heads)
    decoder = engine.decoder(engine.encode(mels), rows, capacity=8)
    before = decoder(tokens)
    for one, other, off in zip(decoder.align(tokens, heads), wanted, (1e-5, 1e-4), strict=True):
        np.testing.assert_allclose(one, other, atol=off)
    fresh = engine.decoder(engine.encode(mels), rows, capacity=8)
    np.testing.assert_array_equal(fresh(tokens), before)
    np.testing.assert_array_equal(decoder(tokens[:, :1]), fresh(tokens[:, :1]))
    with pytest.raises(ValueError, match="made for 8 tokens"):
        decoder(tokens[:, :1])


def test_bf16_is_close(pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any]) -> None:
    reference, model = pair
    copy = Whisper(model.config)
    copy.load_state_dict(model.state_dict())
    engine = TorchWhisper(copy.to(torch.bfloat16), "bf16")
    tokens = np.random.default_rng(5).integers(0, DIMS.n_vocab, (3, 7))
    found = engine.decoder(engine.encode(mels), [0, 1, 2])(tokens)
    wanted = reference.decoder(reference.encode(mels), [0, 1, 2])(tokens)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 0.15 * wanted.std()


def test_loading(tmp_path: Path) -> None:
    from mynah.models.whisper.convert import import_whisper  # reads audio files, too

    tensors = files.random_tensors(files.DIMS)
    source = files.write_huggingface(tmp_path / "hf", tensors)
    folder = read_model_folder(import_whisper(source, tmp_path / "model", weights="fp16"))
    engine = whisper_torch.load(folder, precision="auto", threads=1, device="cpu")
    assert engine.name == "torch fp32 cpu" and engine.dims == files.DIMS
    with pytest.raises(ConfigError, match="precision: the torch engine computes in fp32, fp16"):
        whisper_torch.load(folder, precision="int8", threads=1, device="cpu")
    with pytest.raises(ConfigError, match="device: 'gpu'"):
        whisper_torch.load(folder, precision="auto", threads=1, device="gpu")
    from mynah.model_folder import find_model

    with pytest.raises(ModelError, match="has no weights.safetensors"):
        bundled = read_model_folder(find_model())
        whisper_torch.load(bundled, precision="auto", threads=1, device="cpu")


@on_cuda
@pytest.mark.parametrize(("precision", "off"), [("fp32", 5e-4), ("fp16", 0.03), ("bf16", 0.2)])
def test_cuda_gives_the_logits_of_the_reference(
    pair: tuple[Reference, Whisper],
    mels: np.ndarray[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    off: float,
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    reference, model = pair
    engine = copied(model, "cuda", precision)
    for given in (mels, mels[::-1].copy(), mels):  # captured steps hear other windows, too
        heard, wanted = engine.encode(given), reference.encode(given)
        decoders = [reference.decoder(wanted, [0, 1, 2]), engine.decoder(heard, [0, 1, 2])]
        rng, count = np.random.default_rng(3), 3
        for size, parents in SCRIPT:
            count = count if parents is None else len(parents)
            tokens = rng.integers(0, DIMS.n_vocab, (count, size))
            order = None if parents is None else np.array(parents)
            a, b = (one(tokens, order, every=True) for one in decoders)
            assert b.dtype == np.float32 and np.abs(b - a).max() < off * max(float(a.std()), 1.0)
    lanes = [lane for room in engine._pool._free for lane in room.lanes.values()]
    # as where recording is only pretended: steps of two hypotheses a window, up to 64 units
    assert [(lane.width, sorted(lane.captured)) for lane in lanes] == [(1, []), (2, [64])]
    heads = [(1, 0), (0, 1)]
    tokens = np.random.default_rng(5).integers(0, DIMS.n_vocab, (3, 7))
    a, b = (
        one.decoder(one.encode(mels), [0, 0, 2]).align(tokens, heads) for one in (reference, engine)
    )
    for one, other in zip(b, a, strict=True):
        np.testing.assert_allclose(one, other, atol=off * max(float(other.std()), 1.0))


@on_cuda
def test_cuda_captured_and_as_it_is_alone_and_among_others(
    pair: tuple[Reference, Whisper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    many = np.random.default_rng(4).standard_normal((16, 80, 120)).astype(np.float32)
    captured, plain = (copied(pair[1], "cuda", "fp32") for _ in range(2))
    monkeypatch.setattr(plain._pool, "_record", None)
    tokens = np.random.default_rng(9).integers(0, DIMS.n_vocab, (16, 90))

    def spoken(engine: TorchWhisper, rows: slice) -> Any:
        step = engine.decoder(engine.encode(many[rows]), range(len(many[rows])))
        return np.stack([step(tokens[rows, n : n + 1]) for n in range(90)])

    near: Any = {"atol": 3e-4, "rtol": 1e-4}
    for _ in range(2):
        found = spoken(captured, slice(0, 16))
    np.testing.assert_allclose(found, spoken(plain, slice(0, 16)), **near)
    np.testing.assert_allclose(found[:, 3:4], spoken(captured, slice(3, 4)), **near)
    np.testing.assert_allclose(found[:, :5], spoken(captured, slice(0, 5)), **near)


@on_cuda
def test_cuda_beam_and_threads(
    pair: tuple[Reference, Whisper], mels: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    reference, model = pair
    engine = copied(model, "cuda", "fp32")
    wanted = searched(reference, mels)
    found: list[Any] = []
    threads = [  # all of them capture while the others decode
        threading.Thread(target=lambda: found.append(searched(engine, mels))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4
    assert searched(engine, mels) == wanted
