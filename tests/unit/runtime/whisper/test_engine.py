"""Whisper on ONNX Runtime against a plain float64 Whisper: hearing, decoding, alignment, errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import Reference, random_whisper

from mynah.errors import ConfigError, ModelError
from mynah.model_folder import read_model_folder, write_model_file
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.whisper.config import WhisperDims
from mynah.runtime.whisper.engine import OnnxHeard, OnnxWhisper, load_whisper_engine

DIMS = WhisperDims(80, 1500, 64, 2, 2, files.TOKENS, 128, 64, 2, 2)
RNG = np.random.default_rng(0)
MELS = RNG.standard_normal((4, 80, 60)).astype(np.float32)
BOUND = {"fp32": 2e-6, "int8": 0.03}  # of the largest value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("whisper")
    files.write_huggingface(place / "hf", random_whisper(DIMS, seed=3)[1], DIMS)
    return import_whisper(place / "hf", place / "model", precision="both")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(*random_whisper(DIMS, seed=3))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(folder: Path, request: pytest.FixtureRequest) -> Any:
    return load_whisper_engine(read_model_folder(folder), precision=request.param)


def tokens(*shape: int) -> Any:
    return RNG.integers(0, 300, shape)


def close(engine: Any, found: Any, wanted: Any) -> None:
    bound = BOUND[engine.name.removeprefix("onnx ")] * float(np.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=bound, rtol=0)


def test_hearing(engine: Any, reference: Reference) -> None:
    heard, wanted = engine.encode(MELS), reference.encode(MELS)
    assert (heard.frames, heard.output.dtype) == (30, np.float32)
    close(engine, heard.output, wanted.output)


ROWS = [0, 1, 1, 2, 2, 2]
# beams that go on, part, change their number, leave windows out, leave all but one out
ROADS = (None, [0, 2, 1, 3, 3, 4], [0, 1, 1, 5, 4, 4], None, [1, 2, 3, 0], [0, 0, 1, 2, 2, 3], [5])


def test_decoding(engine: Any, reference: Reference) -> None:
    ours = engine.decoder(engine.encode(MELS), ROWS)
    plain = reference.decoder(reference.encode(MELS), ROWS)
    given = tokens(6, 5)
    found = ours(given, every=True)
    assert (found.shape, found.dtype) == ((6, 5, files.TOKENS), np.float32)
    close(engine, found, plain(given, every=True))
    for road in ROADS:
        parents = None if road is None else np.array(road)
        given = tokens(6 if road is None else len(road), 1)
        found = ours(given, parents)
        close(engine, found, plain(given, parents))
    given = tokens(1, 3)  # several after a past: of one hypothesis, and of some
    found = ours(given, every=True)
    close(engine, found, plain(given, every=True))
    given, parents = tokens(2, 3), np.array([0, 0])
    found = ours(given, parents, every=True)
    close(engine, found, plain(given, parents, every=True))
    given = tokens(2, 90)  # the buffers grow
    close(engine, ours(given), plain(given))


def test_beams_that_part_and_meet(engine: Any, reference: Reference) -> None:
    """Any parents, in a window's own slots, step after step: what was copied before counts."""
    dice = np.random.default_rng(5)
    for _ in range(3):
        ours = engine.decoder(engine.encode(MELS[:2]), [0, 0, 0, 1, 1, 1])
        plain = reference.decoder(reference.encode(MELS[:2]), [0, 0, 0, 1, 1, 1])
        given = tokens(6, 2)
        ours(given), plain(given)
        for _ in range(8):
            parents = np.concatenate([dice.integers(0, 3, 3), dice.integers(3, 6, 3)])
            given = dice.integers(0, 3, (6, 1))  # few, so that some say the same again
            close(engine, ours(given, parents), plain(given, parents))


def test_what_lies_in_buffers_does_not_matter(folder: Path) -> None:
    """A decoder in memory that another has left: of NaN, and large enough to grow within."""
    given, parents = tokens(6, 2), np.array([1, 1, 2, 3, 5, 5])
    steps, last = [tokens(6, 1) for _ in range(100)], tokens(3, 1)
    found = []
    for size in (0, 1 << 20, 1 << 26):
        engine: Any = load_whisper_engine(read_model_folder(folder), precision="int8")
        blocks = [engine.buffers.take(size) for _ in range(12)]
        for block in blocks:
            block[:] = 255
        places = {block.ctypes.data for block in blocks}
        del blocks, block
        heard = engine.encode(MELS)
        step = engine.decoder(heard, [0, 0, 1, 2, 2, 3])
        step(given)
        logits = [step(one, parents) for one in steps]
        logits.append(step(last, np.array([0, 3, 4])))
        if size == 1 << 26:
            assert step._past.ctypes.data in places and step._past.shape[4] > 64
        found.append((logits, step.align(given, [(0, 0)])[0], heard.cross))
    for logits, weights, cross in found[1:]:
        for one, other in zip(logits, found[0][0], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(weights, found[0][1])
        for name, array in cross.items():
            np.testing.assert_array_equal(array, found[0][2][name])


def test_windows_in_any_order(engine: Any, reference: Reference) -> None:
    rows = [3, 0, 3]
    ours = engine.decoder(engine.encode(MELS), rows)
    plain = reference.decoder(reference.encode(MELS), rows)
    for parents in (None, np.array([1, 2, 0, 0, 1]), np.array([4, 1, 2, 3, 0])):
        given = tokens(3 if parents is None else len(parents), 1)
        found = ours(given, parents)
        close(engine, found, plain(given, parents))


def test_alignment(engine: Any, reference: Reference) -> None:
    heads = [(0, 1), (1, 0), (1, 1)]
    ours = engine.decoder(engine.encode(MELS), [0, 1, 1])
    plain = reference.decoder(reference.encode(MELS), [0, 1, 1])
    given, after = tokens(3, 7), tokens(3, 1)
    ours(given), plain(given)
    (found, logits), (wanted, every) = ours.align(given, heads), plain.align(given, heads)
    assert (found.shape, found.dtype) == ((3, 3, 7, 30), np.float32)
    assert (logits.shape, logits.dtype) == ((3, 7, DIMS.n_vocab), np.float32)
    close(engine, found, wanted)
    close(engine, logits, every)
    close(engine, ours(after), plain(after))  # the past stayed


def text(engine: Any, heard: Any, rows: list[int], given: Any) -> Any:
    """Logits of a prefix, of four beams from it with another token each, and of one step more."""
    step = engine.decoder(heard, rows)
    first = step(given)
    count = len(rows)
    beams = np.repeat(np.arange(count), 4)
    second = step(np.tile(np.arange(4)[:, None], (count, 1)), beams)
    shift = beams * 4 + np.tile([1, 1, 0, 3], count)
    third = step(np.tile(np.arange(4)[:, None], (count, 1)), shift)
    return first, second.reshape(count, 4, -1), third.reshape(count, 4, -1)


def test_company_does_not_matter(engine: Any) -> None:
    loud = np.array([1, 30, 0.01, 5], np.float32)[:, None, None]
    mels = np.concatenate([MELS, loud * MELS])
    given = tokens(1, 4)
    alone = [text(engine, engine.encode(m[None]), [0], given) for m in mels]
    for order in (np.arange(8), RNG.permutation(8), RNG.permutation(8)[:3]):
        heard = engine.encode(mels[order])
        found = text(engine, heard, list(range(len(order))), given.repeat(len(order), 0))
        for part, logits in enumerate(found):
            for place, window in enumerate(order):
                np.testing.assert_allclose(logits[place], alone[window][part][0], atol=1e-4)


def test_tokens_at_once_or_one_by_one(engine: Any) -> None:
    heard, given = engine.encode(MELS[:2]), tokens(2, 6)
    whole = engine.decoder(heard, [0, 1])(given, every=True)
    step = engine.decoder(heard, [0, 1])
    single = np.stack([step(given[:, i : i + 1]) for i in range(6)], axis=1)
    np.testing.assert_allclose(single, whole, atol=1e-4)


def test_capacity(engine: Any) -> None:
    step = engine.decoder(engine.encode(MELS[:1]), [0], 5)
    step(tokens(1, 4))
    step(tokens(1, 1))
    with pytest.raises(ValueError, match="5 and 1 more tokens; the decoder was started for 5"):
        step(tokens(1, 1))
    most = engine.decoder(engine.encode(MELS[:1]), [0])
    most(tokens(1, 128))
    with pytest.raises(ValueError, match="started for 128"):
        most(tokens(1, 1))
    with pytest.raises(ValueError, match="tokens of 2 hypotheses, 1 are there"):
        engine.decoder(engine.encode(MELS[:1]), [0])(tokens(2, 1))
    for shape in ((1, 128, 60), (1, 80, 61), (1, 80, 3002), (1, 80, 0)):
        with pytest.raises(ValueError, match="mels of shape"):
            engine.encode(np.zeros(shape, np.float32))


def test_what_cannot_be_loaded(folder: Path, tmp_path: Path) -> None:
    model = read_model_folder(folder)
    with pytest.raises(ConfigError, match="unknown engine 'onxn'.*'onnx'"):
        load_whisper_engine(model, engine="onxn")
    with pytest.raises(ConfigError, match="unknown precision 'int4'"):
        load_whisper_engine(model, precision="int4")
    with pytest.raises(ConfigError, match="threads: 0"):
        load_whisper_engine(model, threads=0)
    with pytest.raises(ConfigError, match="on the CPU, not on 'cuda'"):
        load_whisper_engine(model, engine="onnx", device="cuda")
    with pytest.raises(ConfigError, match="computes in int8 or fp32; fp16 is for a GPU"):
        load_whisper_engine(model, engine="onnx", precision="fp16")
    encoder = folder / "onnx/encoder.int8.onnx"
    kept, table = encoder.read_bytes(), (folder / "onnx/embedding.int8.npy").read_bytes()
    try:
        encoder.write_bytes(kept[:-1000])
        with pytest.raises(ModelError, match="encoder.int8.onnx was altered"):
            load_whisper_engine(read_model_folder(folder))
        write_model_file(folder, model.info)
        with pytest.raises(ModelError, match="not a graph that ONNX Runtime can run"):
            load_whisper_engine(read_model_folder(folder))
        encoder.write_bytes(kept)
        np.save(folder / "onnx/embedding.int8.npy", np.zeros((3, 4), np.float32))
        write_model_file(folder, model.info)
        with pytest.raises(ModelError, match=r"embedding.int8.npy: \(3, 4\) of float32; the model"):
            load_whisper_engine(read_model_folder(folder))
        (folder / "onnx/embedding.int8.npy").write_bytes(b"no table")
        write_model_file(folder, model.info)
        with pytest.raises(ModelError, match="embedding.int8.npy: not a table of numbers"):
            load_whisper_engine(read_model_folder(folder))
    finally:
        encoder.write_bytes(kept)
        (folder / "onnx/embedding.int8.npy").write_bytes(table)
        write_model_file(folder, model.info)


def test_large_graphs_keep_their_weights_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Reference
) -> None:
    monkeypatch.setattr("mynah.models.whisper.convert._INSIDE", 1000)
    files.write_huggingface(tmp_path / "hf", random_whisper(DIMS, seed=3)[1], DIMS)
    out = import_whisper(tmp_path / "hf", tmp_path / "out", precision="fp32")
    model = read_model_folder(out)
    assert model.has("onnx/decoder.fp32.onnx.data") and not model.has("onnx/decoder.int8.onnx")
    engine = load_whisper_engine(model)
    wanted = reference.encode(MELS[:1])
    close(engine, engine.encode(MELS[:1]).output, wanted.output)


def test_several_threads_share_an_engine(engine: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(row: int) -> Any:
        return text(engine, engine.encode(MELS[row : row + 1]), [0], np.arange(3)[None])[2]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for row in range(4):
        np.testing.assert_array_equal(found[row], work(row))


def test_it_runs_where_torch_and_onnx_cannot_be_imported(folder: Path) -> None:
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'onnx', 'safetensors', 'transformers'):\n"
        "            raise ImportError(f'{name} must not be imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import numpy as np\n"
        "from mynah.model_folder import read_model_folder\n"
        "from mynah.runtime.whisper.engine import load_whisper_engine\n"
        f"engine = load_whisper_engine(read_model_folder({str(folder)!r}))\n"
        "heard = engine.encode(np.zeros((1, 80, 60), np.float32))\n"
        "print(engine.name, engine.decoder(heard, [0])(np.array([[1, 2]])).shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"onnx int8 (1, {files.TOKENS})\n"


def test_idle_windows_are_left_out(folder: Path) -> None:
    engine = load_whisper_engine(read_model_folder(folder), precision="fp32")
    assert isinstance(engine, OnnxWhisper)
    heard = engine.encode(MELS)
    assert isinstance(heard, OnnxHeard)
    step = engine.decoder(heard, [0, 1, 2, 3])
    step(tokens(4, 2))
    step(tokens(3, 1), np.array([0, 2, 3]))
    assert len(step._windows) == 4  # one is idle
    step(tokens(2, 1), np.array([0, 2]))
    assert step._windows.tolist() == [0, 3]
    assert all(np.shares_memory(a, heard.cross[n]) is False for n, a in step._cross.items())
    beam = engine.decoder(heard, [1, 1, 2])
    assert all(np.shares_memory(a, heard.cross[n]) for n, a in beam._cross.items())
