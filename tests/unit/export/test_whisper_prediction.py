"""Rules and choices on a device against those of the host: the same tokens, the same scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests import whisper_files as files
from tests.whisper_reference import random_whisper

torch = pytest.importorskip("torch")

from mynah.decoding.whisper_prediction import HostPrediction  # noqa: E402
from mynah.decoding.whisper_rules import Rules  # noqa: E402
from mynah.errors import ModelError  # noqa: E402
from mynah.export.whisper_prediction import DevicePrediction, Masks  # noqa: E402
from mynah.export.whisper_torch import PRECISIONS, TorchTextDecoder, TorchWhisper  # noqa: E402
from mynah.models.whisper.model import Whisper  # noqa: E402
from mynah.nn.weights import fill  # noqa: E402
from mynah.runtime.whisper.config import WhisperConfig, WhisperDims  # noqa: E402
from mynah.runtime.whisper.options import WhisperOptions  # noqa: E402
from mynah.runtime.whisper.prompts import fixed_prompts  # noqa: E402
from mynah.runtime.whisper.window import Asked, Found, WindowDecoder  # noqa: E402
from mynah.text.whisper_tokenizer import WhisperTokenizer, standard_tokens  # noqa: E402

no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
on_each = pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=no_gpu)])
Array = np.ndarray[Any, Any]
TOKENIZER = WhisperTokenizer(files.vocabulary(), standard_tokens(300, files.TOKENS))

EOT, BEGIN, SIZE = 60, 70, 100
VARIANTS: list[dict[str, Any]] = [
    {},
    {"timestamps": False},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6, "timestamps": False},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2, "repetition_penalty": 1.2},
    {"suppressed": (2, 7, 73), "first_suppressed": (5, EOT), "latest_first": None},
]
# what 3 hypotheses have said: text, a time, a pair of them, an n-gram of before
SAID = [
    np.zeros((3, 0), np.int64),
    np.array([[70], [3], [99]]),
    np.array([[70, 1], [75, 2], [80, 80]]),
    np.array([[70, 1, 2, 80, 80, 1], [75, 2, 1, 2, 1, 2], [70, 4, 4, 4, 4, 90]]),
    np.array([[1, 1, 1, 1, 1], [70, 5, 71, 71, 6], [80, 3, 3, 3, 99]]),
]


def logits(seed: int, kind: type = np.float32) -> Array:
    """Those of six rows; in half precision many are equal."""
    values = np.random.default_rng(seed).normal(0, 3, (6, SIZE))
    values[1, :BEGIN] += 4  # text in this row, times in the next
    values[2, BEGIN:] += 2
    return (np.round(values) if kind is np.float16 else values).astype(kind).astype(np.float32)


def both(values: Array, places: Sequence[int], where: str) -> list[Any]:
    device = torch.device(where)
    theirs = DevicePrediction(
        torch.from_numpy(values.copy()).to(device), np.array(places), Masks(device, SIZE)
    )
    return [HostPrediction(values[np.array(places)]), theirs]


@on_each
@pytest.mark.parametrize("said", SAID, ids=str)
@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_choices(values: dict[str, Any], said: Array, where: str) -> None:
    rules = Rules(**{"eot": EOT, "timestamp_begin": BEGIN, "no_timestamps": 65,
                     "latest_first": 20, **values})  # fmt: skip
    uniform = np.array([0.02, 0.5, 0.999])
    for seed in range(8):
        places = [[0, 1, 2], [5, 1, 2], [3, 3, 0]][seed % 3]
        drawn = logits(seed, np.float16 if seed % 2 else np.float32)
        for begun in (0, said.shape[1]):
            for count in (1, 6, 2 * SIZE):
                wanted, found = (
                    one.best(rules, said, begun, count) for one in both(drawn, places, where)
                )
                possible = np.isfinite(wanted[1])
                assert (np.isfinite(found[1]) == possible).all()
                assert (found[0] == wanted[0])[possible].all()
                assert found[1].dtype == wanted[1].dtype and found[0].dtype == wanted[0].dtype
                np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
            wanted, found = (
                one.drawn(rules, said, begun, 0.7, uniform) for one in both(drawn, places, where)
            )
            assert found[0].tolist() == wanted[0].tolist()
            np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)


@on_each
def test_all_rows_of_a_step_are_one_call(where: str) -> None:
    """Where every row of a step is a hypothesis, none is picked; the logits stay as they are
    unless they are asked for tokens."""
    host, device = both(logits(3), range(6), where)
    rules = Rules(eot=EOT, timestamp_begin=BEGIN, timestamps=False, suppressed=(EOT,))
    for token in (0, EOT):
        np.testing.assert_allclose(device.probability(token), host.probability(token), rtol=1e-4)
    chosen = np.array([4, 4, 0])
    said = np.zeros((3, 0), np.int64)
    wanted, found = (one.of(chosen).best(rules, said, 0, 3) for one in (host, device))
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
    wanted, found = (
        one.best(rules, np.zeros((6, 0), np.int64), 0, 3)
        for one in both(logits(3), range(6), where)
    )
    np.testing.assert_array_equal(found[0], wanted[0])


@on_each
@pytest.mark.parametrize("broken", [np.nan, -np.nan, np.inf])
def test_logits_that_are_no_numbers(where: str, broken: float) -> None:
    values = logits(1)
    values[4, 50] = broken
    rules = Rules(eot=EOT, timestamp_begin=BEGIN, timestamps=False)
    none, half = np.zeros((2, 0), np.int64), np.full(2, 0.5)
    for ask in (
        lambda one: one.best(rules, none, 0, 3),
        lambda one: one.best(rules, none, 0, 1),
        lambda one: one.drawn(rules, none, 0, 1.0, half),
    ):
        for one in both(values, [0, 4], where):
            with pytest.raises(ModelError, match="not numbers"), np.errstate(invalid="ignore"):
                ask(one)


def test_masks_are_kept_but_not_for_ever() -> None:
    masks = Masks(torch.device("cpu"), SIZE)
    first = masks(Rules(EOT, BEGIN, (1,)), first=False, nothing=False)
    assert masks(Rules(EOT, BEGIN, (1,)), first=False, nothing=False) is first
    assert np.flatnonzero(np.isneginf(first)).tolist() == [1]
    for token in range(SIZE):
        masks(Rules(EOT, BEGIN, (token,)), first=False, nothing=False)
    assert len(masks._kept) <= 32


# the whole search, of windows with prompts and without

DIMS = WhisperDims(80, 100, 32, 2, 1, files.TOKENS, 128, 32, 2, 2)
OPTIONS: list[dict[str, Any]] = [
    {"beam_size": 1},
    {"beam_size": 1, "without_timestamps": True},
    {"beam_size": 5},
    {"beam_size": 3, "patience": 2.0, "length_penalty": 1.0},
    {"beam_size": 4, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
    {"beam_size": 1, "repetition_penalty": 0.8, "no_repeat_ngram_size": 3},
    {"beam_size": 5, "prefix": "the cat", "hotwords": "mat", "initial_prompt": "that hat"},
    {"beam_size": 2, "suppress_tokens": "", "suppress_blank": False, "max_initial_timestamp": None},
    {"beam_size": 2, "suppress_tokens": "-1,273,99"},
    {"temperature": 0.8, "best_of": 3},
    {"temperature": (0.0, 0.4, 0.9), "best_of": 2, "logprob_threshold": -0.1},
]


def played(run: Any) -> Any:
    """A captured step: the same buffers are read and written whenever it runs."""
    values = run()
    return lambda: values.copy_(run()), values


@pytest.fixture(scope="module")
def model() -> Whisper:
    dims, tensors = random_whisper(DIMS, seed=7)
    made = Whisper(WhisperConfig(dims))
    fill(made, {name: torch.from_numpy(value) for name, value in tensors.items()}, "random")
    return made


def searched(engine: TorchWhisper, values: dict[str, Any]) -> list[Found]:
    """Five windows, two with a prompt."""
    options = WhisperOptions(**{"temperature": 0.0, "max_new_tokens": 40, **values})
    first = (*TOKENIZER.encode(" "), TOKENIZER.eos)
    decode = WindowDecoder(engine, TOKENIZER, options, first)
    fixed = fixed_prompts(options, TOKENIZER, DIMS)
    start = TOKENIZER.sot_sequence("en", timestamps=not options.without_timestamps)
    prompt = (TOKENIZER.special.sot_prev, *TOKENIZER.encode(" the cat sat"))
    asked = [Asked(start, prompt if n > 2 else (), fixed.prefix, (0, n)) for n in range(5)]
    mels = np.random.default_rng(1).standard_normal((5, 80, 200)).astype(np.float32)
    return decode(engine.encode(mels), range(5), asked)


def same(found: list[Found], wanted: list[Found]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.tokens == other.tokens and one.tried == other.tried
        np.testing.assert_allclose(one.logs, other.logs, atol=1e-5)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-5)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, rel=1e-4)


@pytest.mark.parametrize("values", OPTIONS, ids=str)
def test_searches(model: Whisper, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchWhisper(model, "fp32")
    monkeypatch.setattr(engine._pool, "_record", played)
    assert engine._masks is None, "on the CPU numpy chooses"
    wanted = searched(engine, values)
    assert len({found.tokens for found in wanted}) > 1
    engine._masks = Masks(engine.device, DIMS.n_vocab)
    for _ in range(2):  # captured steps, too
        same(searched(engine, values), wanted)


class Beside(TorchTextDecoder):
    """The same decoder, whose every choice is compared with that of the host."""

    def predict(self, tokens: Any, parents: Any = None) -> Any:
        return Compared(super().predict(tokens, parents))


class Compared:
    def __init__(self, device: DevicePrediction) -> None:
        self.device = device
        self.host = HostPrediction(device._logits.cpu().numpy()[device._places])

    def of(self, rows: Array) -> Compared:
        return Compared(self.device.of(rows))

    def probability(self, token: int) -> Any:
        found = self.device.probability(token)
        np.testing.assert_allclose(found, self.host.probability(token), rtol=1e-4)
        return found

    def best(self, *asked: Any) -> Any:
        found, wanted = self.device.best(*asked), self.host.best(*asked)
        possible = np.isfinite(wanted[1])
        assert (np.isfinite(found[1]) == possible).all()
        assert (found[0] == wanted[0])[possible].all()
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
        return found

    def drawn(self, *asked: Any) -> Any:
        found, wanted = self.device.drawn(*asked), self.host.drawn(*asked)
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
        return found


@pytest.mark.parametrize("values", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("where", "precision"),
    [
        ("cpu", "bf16"),
        pytest.param("cuda", "fp32", marks=no_gpu),
        pytest.param("cuda", "fp16", marks=no_gpu),
    ],
)
def test_every_choice_is_that_of_the_host(
    model: Whisper,
    values: dict[str, Any],
    where: str,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where numbers are short, many logits are equal; on a GPU steps are captured."""
    copy = Whisper(model.config).to(where, PRECISIONS[precision])
    copy.load_state_dict(model.state_dict())
    engine = TorchWhisper(copy, precision)
    engine._masks = engine._masks or Masks(engine.device, DIMS.n_vocab)
    monkeypatch.setattr("mynah.export.whisper_torch.TorchTextDecoder", Beside)
    for _ in range(2):
        found = searched(engine, values)
        assert max(len(one.tokens) for one in found) > 1


def test_only_candidates_come_back(model: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    from mynah.export import whisper_prediction, whisper_torch

    sizes: list[int] = []
    plain = whisper_prediction.on_host

    def counted(tensor: Any) -> Any:
        sizes.append(tensor.numel())
        return plain(tensor)

    for module in (whisper_prediction, whisper_torch):
        monkeypatch.setattr(module, "on_host", counted)
    engine = TorchWhisper(model, "fp32")
    engine._masks = Masks(engine.device, DIMS.n_vocab)
    searched(engine, {"beam_size": 5})
    assert max(sizes) == 3 * 5 * (6 + 6 + 1), "candidates, their logits and the sum of a row"
