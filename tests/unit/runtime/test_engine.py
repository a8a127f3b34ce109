"""The engine on ONNX Runtime: what it loads, refuses and computes."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from mynah.audio import make_frontend
from mynah.errors import ConfigError, MissingDependency, ModelError
from mynah.model_folder import read_model_folder
from mynah.runtime import engine as engines
from mynah.runtime.engine import Engine, load_engine
from mynah.runtime.model import load_model
from tone_model import FRONTEND, speak, write_tone_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_model(tmp_path_factory.mktemp("engine") / "tones")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return load_engine(folder)


@pytest.fixture(scope="module")
def feats() -> np.ndarray:
    return make_frontend(FRONTEND)(speak("abc de"))


def test_facts(engine: Engine) -> None:
    assert (engine.subsampling, engine.overlap, engine.name) == (4, 6, "onnx fp32")
    assert engine.info.name == "tones"
    assert engine.has_decoder


def test_state_is_batch_first(engine: Engine) -> None:
    state = engine.init_state(3, 8)
    assert {name: array.shape for name, array in state.items()} == {
        "overlap": (3, 6, 40),
        "overlap_lens": (3,),
        "position": (3,),
    }


def test_chunks_equal_whole(engine: Engine, feats: np.ndarray) -> None:
    whole = engine.encode(feats[None], np.array([len(feats)]))
    state, parts = engine.init_state(1, 0), []
    for first in range(0, len(feats), 20):
        part = feats[None, first : first + 20]
        out = engine.encode(part, np.array([part.shape[1]]), state)
        parts.append(out.log_probs[0, : out.lens[0]])
        state = out.state
    np.testing.assert_allclose(np.concatenate(parts), whole.log_probs[0, : whole.lens[0]])
    assert state["position"][0] == whole.lens[0]


def test_the_next_state_is_written_where_asked(engine: Engine, feats: np.ndarray) -> None:
    state, into = engine.init_state(1, 0), engine.init_state(1, 0)
    plain = engine.encode(feats[None, :50], np.array([50]), state)
    out = engine.encode(feats[None, :50], np.array([50]), state, next_state=into)
    for name in state:
        assert out.state[name] is into[name]
        np.testing.assert_array_equal(into[name], plain.state[name])


def test_results_outlive_the_next_run(engine: Engine, feats: np.ndarray) -> None:
    out = engine.encode(feats[None], np.array([len(feats)]))
    before = out.log_probs.copy()
    for _ in range(20):
        engine.encode(feats[None] * 0, np.array([len(feats)]))
    np.testing.assert_array_equal(out.log_probs, before)


def test_inputs_of_other_types_and_strides(engine: Engine, feats: np.ndarray) -> None:
    expected = engine.encode(feats[None], np.array([len(feats)])).log_probs
    strided = np.asfortranarray(feats.astype(np.float64))[None]
    found = engine.encode(strided, np.array([len(feats)], np.int32)).log_probs
    np.testing.assert_array_equal(found, expected)


def test_threads_share_an_engine(engine: Engine, feats: np.ndarray) -> None:
    expected = engine.encode(feats[None], np.array([len(feats)])).log_probs
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            found = engine.encode(feats[None], np.array([len(feats)])).log_probs
            if not np.array_equal(found, expected):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"name": "onxx"}, "unknown engine 'onxx' (did you mean 'onnx'?)"),
        ({"precision": "int4"}, "unknown precision 'int4' (did you mean 'int8'?)"),
        ({"threads": 0}, "threads: 0 is not"),
        ({"name": "onnx", "device": "cuda"}, "runs on the CPU, not on 'cuda'"),
    ],
)
def test_wrong_choices(folder: Path, arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_engine(folder, **arguments)  # type: ignore[arg-type]
    assert line in str(error.value)


def test_missing_precision(folder: Path) -> None:
    with pytest.raises(ModelError, match="has graphs in fp32 alone, not in int8"):
        load_engine(folder, "onnx", precision="int8")


def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.ENGINES, "torch", "no_such_library")
    with pytest.raises(MissingDependency, match=r"mynah-speech\[train\]"):
        load_engine(folder, "torch")


def test_choice(folder: Path) -> None:
    opened = read_model_folder(folder)
    assert engines.choose_engine(opened) == "onnx"
    assert engines.choose_engine(opened, "cuda") == "torch"


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_spoilt_part(tmp_path: Path, damage: str) -> None:
    folder = write_tone_model(tmp_path / "m")
    graph = folder / "onnx" / "encoder.fp32.onnx"
    if damage == "missing":
        graph.unlink()
    else:
        graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=f"encoder.fp32.onnx .*{damage}") as error:
        load_engine(folder)
    assert "\n" not in str(error.value)


def test_weights_beside_the_graph_are_verified(tmp_path: Path, feats: np.ndarray) -> None:
    from mynah.model_folder import write_model_file

    folder = write_tone_model(tmp_path / "m")
    path = folder / "onnx" / "encoder.fp32.onnx"
    model, data = onnx.load(path), f"{path.name}.data"
    onnx.save(model, path, save_as_external_data=True, location=data)
    write_model_file(folder, read_model_folder(folder).info)
    load_engine(folder).encode(feats[None], np.array([len(feats)]))
    weights = path.with_name(data)
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    with pytest.raises(ModelError, match=r"encoder\.fp32\.onnx\.data was altered"):
        load_engine(folder)


def test_a_graph_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "m")
    path = folder / "onnx" / "encoder.fp32.onnx"
    path.rename(tmp_path / "elsewhere.onnx")
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match=r"encoder\.fp32\.onnx: a link that leaves"):
        load_engine(folder)
    (tmp_path / "link").symlink_to(write_tone_model(tmp_path / "other"))
    assert load_engine(tmp_path / "link").has_decoder


def test_a_family_that_is_not_known(tmp_path: Path) -> None:
    folder = write_tone_model(tmp_path / "m", family="u3")
    with pytest.raises(ModelError, match="family 'u3' is none of lm, punctuation, u2, vad, whisp"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_part_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    from mynah.model_folder import write_model_file

    folder = write_tone_model(tmp_path / "m")
    (folder / "onnx" / "encoder.fp32.onnx").write_bytes(content)
    write_model_file(folder, read_model_folder(folder).info)
    with pytest.raises(ModelError, match="not a graph that ONNX Runtime can run") as error:
        load_engine(folder)
    assert "\n" not in str(error.value)


def test_a_graph_without_facts(tmp_path: Path) -> None:
    from mynah.model_folder import write_model_file

    folder = write_tone_model(tmp_path / "m")
    path = folder / "onnx" / "encoder.fp32.onnx"
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    write_model_file(folder, read_model_folder(folder).info)
    with pytest.raises(ModelError, match="does not say its subsampling"):
        load_engine(folder)
