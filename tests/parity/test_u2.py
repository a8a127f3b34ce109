"""Imported WeNet checkpoints against the numbers that WeNet computed from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mynah.decoding import (
    Hypothesis,
    PrefixBeamSearch,
    attention_beam_search,
    ctc_greedy,
    force_align,
    rescore,
)
from mynah.losses import accuracy, ctc_loss, label_smoothing_loss
from mynah.models.load import load_model
from mynah.models.u2.convert import import_wenet
from mynah.models.u2.model import U2
from mynah.models.u2.wenet_names import sources
from mynah.nn.convolution import ConvolutionModule
from mynah.nn.feed_forward import Dropout
from wenet_context import WenetContext

STREAMING = ["u2pp-conformer", "u2-transformer"]
ALL = [*STREAMING, "conformer-batchnorm"]


@dataclass
class Case:
    """One folder: the imported model, its inputs, and WeNet's numbers."""

    model: U2
    feats: Tensor
    feat_lens: Tensor
    tokens: Tensor
    token_lens: Tensor
    expected: dict[str, np.ndarray[Any, Any]]
    decoded: dict[str, Any]

    @property
    def reverse(self) -> bool:
        return self.model.reverse_decoder is not None

    def whole(self, chunk: int | None = None, left: int | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            encoded, lens, _ = self.model(self.feats, self.feat_lens, chunk=chunk, left=left)
        return encoded, lens


@pytest.fixture(scope="module")
def cases(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    torch.set_num_threads(1)
    return {name: make_case(shared / "parity" / name, tmp_path_factory) for name in ALL}


def make_case(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    target = import_wenet(folder, tmp_path_factory.mktemp("model") / folder.name)
    model = load_model(target)
    assert isinstance(model, U2)
    given = {k: torch.from_numpy(v) for k, v in np.load(folder / "inputs.npz").items()}
    return Case(
        model,
        given["feats"],
        given["feats_lengths"].long(),
        given["labels"].long().clamp(min=0),
        given["label_lengths"].long(),
        dict(np.load(folder / "outputs.npz")),
        json.loads((folder / "decode.json").read_text(encoding="utf-8")),
    )


def close(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """Within ``tolerance``, relative where the numbers are large."""
    if isinstance(found, Tensor):
        found = found.detach().numpy()
    expected = np.asarray(expected)
    error = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    assert error.max() < tolerance, error.max()


def rows(x: Any, lens: Tensor) -> Any:
    """The valid frames of all rows, one after the other."""
    return np.concatenate([np.asarray(x[b])[: int(n)] for b, n in enumerate(lens)])


@pytest.mark.parametrize("name", STREAMING)
def test_encoder(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    encoded, lens = case.whole()
    assert lens.tolist() == case.expected["full_lens"].tolist()
    assert lens.tolist() == case.expected["full_mask"].sum((1, 2)).tolist()
    close(rows(encoded, lens), rows(case.expected["full_enc"], lens))
    with torch.no_grad():
        log_probs = case.model.ctc_log_probs(encoded)
    close(rows(log_probs, lens), rows(case.expected["full_ctc_logp"], lens))
    for chunk, left in ((16, None), (16, 4), (4, None), (4, 2)):
        expected = case.expected[f"chunk_c{chunk}_l{'all' if left is None else left}_enc"]
        close(rows(case.whole(chunk, left)[0], lens), rows(expected, lens))


@pytest.mark.parametrize("name", ALL)
def test_embedding(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    encoder, lens = case.model.encoder, torch.from_numpy(case.expected["full_lens"])
    with torch.no_grad():
        x = encoder.subsampling((case.feats - case.model.mean) * case.model.istd) * encoder.scale
        if encoder.config.positions == "absolute":
            x = x + encoder.sinusoid(torch.arange(x.shape[1]))
    close(rows(x, lens), rows(case.expected["embed_out"], lens))


@pytest.mark.parametrize("name", ALL)
def test_decoders(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    # WeNet's own encoding: that of its symmetric model depends on padding (see below)
    encoded = torch.from_numpy(case.expected["full_enc"])
    lens = torch.from_numpy(case.expected["full_lens"]).long()
    for reverse, prefix in ((False, "dec"), (True, "dec_r"))[: 1 + case.reverse]:
        with torch.no_grad():
            logits = case.model.decode(encoded, lens, case.tokens, case.token_lens, reverse=reverse)
        targets = case.model.targets(case.tokens, case.token_lens, reverse=reverse)
        assert targets.tolist() == case.expected[f"{prefix}_ys_out"].tolist()
        sizes = case.token_lens + 1
        close(rows(logits, sizes), rows(case.expected[f"{prefix}_logits"], sizes))


@pytest.mark.parametrize("name", ALL)
def test_hypotheses_scored(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    given = torch.from_numpy(case.expected["resc_hyps"]).long()
    sizes = torch.from_numpy(case.expected["resc_hyps_lens"]).long()  # with <sos>
    tokens, lens = given[:, 1:].clamp(min=0)[None], (sizes - 1)[None]
    frames = int(case.expected["full_lens"][0])
    encoded = torch.from_numpy(case.expected["full_enc"])[:1, :frames]
    with torch.no_grad():
        scores, reverse = case.model.score(encoded, torch.tensor([frames]), tokens, lens)
    for found, prefix in ((scores, "resc"), (reverse, "resc_r"))[: 1 + case.reverse]:
        assert found is not None
        expected = case.expected[f"{prefix}_dec_logp"]
        for n in range(len(given)):
            size = int(sizes[n])
            text = tokens[0, n, : size - 1].tolist()
            targets = [*(text if prefix == "resc" else text[::-1]), case.model.config.eos]
            close(found[0, n, :size], expected[n, range(size), targets])
            assert not found[0, n, size:].any()


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(("chunk", "left"), [(16, 4), (4, 2), (16, None)])
def test_stream(cases: dict[str, Case], name: str, chunk: int, left: int | None) -> None:
    case = cases[name]
    model, key = case.model, f"stream_c{chunk}_l{'all' if left is None else left}"
    feats = case.feats[:1, : int(case.feat_lens[0])]
    state = model.init_state(1, capacity=64 if left is None else chunk * left)
    parts = []
    for first, end, offset, frames, *_ in case.expected[f"{key}_shapes"].tolist():
        assert state.position.tolist() == [offset]
        start = first + int(state.overlap_lens)  # WeNet feeds what it has fed before again
        with torch.no_grad():
            encoded, lens, state = model(feats[:, start:end], torch.tensor([end - start]), state)
        assert lens.tolist() == [frames]
        parts.append(encoded[:, :frames])
    found = torch.cat(parts, 1)
    close(found, case.expected[f"{key}_enc"])
    whole, _ = case.whole(chunk, left)
    close(found, whole[:1])
    if left is None:
        return
    with torch.no_grad():
        close(model.ctc_log_probs(found), case.expected[f"{key}_ctc_logp"])
    check_caches(model, state, case.expected, key)


def check_caches(model: U2, state: Any, expected: dict[str, Any], key: str) -> None:
    """Ours hold keys with their positions, and the convolution's input behind its gate."""
    theirs = expected[f"{key}_last_att_cache"]  # (L, H, C, 2 d)
    size, width = int(state.valid), theirs.shape[3] // 2
    theirs = theirs[:, :, -size:]
    start = int(state.position) - size
    for i, layer in enumerate(model.encoder.layers):
        keys, values = (x[0, i, :, -size:] for x in (state.keys, state.values))
        if model.config.encoder.positions == "relative_unshifted":
            where = model.encoder.sinusoid(torch.arange(start, start + size))
            p = layer.attention.position(where).view(size, -1, width).transpose(0, 1)
            keys = keys - p
        close(keys, theirs[i, :, :, :width])
        close(values, theirs[i, :, :, width:])
        if model.config.encoder.convolution == "causal":
            module = layer.convolution
            before = torch.from_numpy(expected[f"{key}_last_cnn_cache"])[i].transpose(1, 2)
            gated = F.glu(module.gate(before), -1) - F.glu(module.gate.bias, -1)
            close(state.conv[:, i], gated.detach().numpy())


def losses(case: Case, encoded: Tensor, lens: Tensor) -> dict[str, Tensor]:
    """As WeNet weighs them: per utterance, 0.3 CTC, 0.3 of the decoders' part right to left."""
    model, batch = case.model, len(lens)
    ctc, _ = ctc_loss(model.ctc(encoded), lens, case.tokens, case.token_lens)
    attention = torch.zeros(())
    for reverse, weight in ((False, 0.7), (True, 0.3)) if case.reverse else ((False, 1.0),):
        logits = model.decode(encoded, lens, case.tokens, case.token_lens, reverse=reverse)
        targets = model.targets(case.tokens, case.token_lens, reverse=reverse)
        attention = attention + weight * label_smoothing_loss(logits, targets, smoothing=0.1)[0]
        if not reverse:
            hits, total = accuracy(logits, targets)
    return {
        "loss": (0.3 * ctc + 0.7 * attention) / batch,
        "loss_att": attention / batch,
        "loss_ctc": ctc / batch,
        "acc": torch.tensor(hits / total),
    }


@pytest.mark.parametrize("name", STREAMING)
def test_losses_and_gradients(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    case.model.zero_grad()
    found = losses(case, *case.model(case.feats, case.feat_lens)[:2])
    for key, value in found.items():
        close(value, case.expected[key])
    found["loss"].backward()
    check_gradients(case, ("",))


def check_gradients(case: Case, prefixes: tuple[str, ...]) -> None:
    norms = dict(
        zip(case.expected["grad_names"].tolist(), case.expected["grad_norms"], strict=True)
    )
    squares = 0.0
    parameters = dict(case.model.named_parameters())
    for name, parts in sources(case.model.config, cmvn=False).items():
        if name not in parameters or not name.startswith(prefixes):
            continue
        gradient = parameters[name].grad
        assert gradient is not None
        squares += float(gradient.square().sum())
        for part, piece in zip(parts, gradient.chunk(len(parts)), strict=True):
            close(piece.norm(), norms.pop(part))
    if prefixes == ("",):
        assert not norms, f"no gradient for {sorted(norms)}"
        close(np.sqrt(squares), case.expected["grad_total_norm"])
    gradient = case.model.ctc.weight.grad
    assert gradient is not None
    close(gradient, case.expected["grad_ctc_lo_weight"])


@pytest.mark.parametrize("name", STREAMING)
def test_chunked_training_losses(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    chunk = int(case.expected["train_chunk_size"])
    with torch.no_grad():
        found = losses(case, *case.whole(chunk))
    for key, value in found.items():
        close(value, case.expected[f"train_chunk_{key}"])


def test_symmetric_model_does_not_depend_on_padding(cases: dict[str, Case]) -> None:
    case = cases["conformer-batchnorm"]
    batch, lens = case.whole()
    assert lens.tolist() == case.expected["full_lens"].tolist()
    single = case.expected["single_enc"]
    close(rows(batch, lens), rows(single, lens))
    for row, size in enumerate(case.feat_lens.tolist()):
        with torch.no_grad():
            alone, _, _ = case.model(
                case.feats[row : row + 1, :size], case.feat_lens[row : row + 1]
            )
        close(alone[0], single[row, : int(lens[row])])
    close(batch[0], case.expected["full_enc"][0])  # the longest has no padding
    with torch.no_grad():
        close(case.model.ctc_log_probs(batch)[0], case.expected["full_ctc_logp"][0])


def leaky(module: ConvolutionModule, x: Tensor, lens: Tensor, valid: Tensor, _: None) -> Any:
    """What WeNet's symmetric module does to padding: zeros become the gate of its bias."""
    x = F.glu(module.gate(x * valid[..., None]), dim=-1)
    x = module._convolve(x, (module.kernel - 1) // 2)
    x = module.norm(x, torch.ones_like(valid))
    return module.out(module.activation(x)) * valid[..., None], None


def test_symmetric_model_with_wenets_padding(
    cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its losses, gradients and training statistics hold for padded batches alone."""
    case = cases["conformer-batchnorm"]
    monkeypatch.setattr(ConvolutionModule, "forward", leaky)
    encoded, lens = case.whole()
    close(rows(encoded, lens), rows(case.expected["full_enc"], lens))
    case.model.zero_grad()
    found = losses(case, *case.model(case.feats, case.feat_lens)[:2])
    for key, value in found.items():
        close(value, case.expected[key])
    found["loss"].backward()
    check_gradients(case, ("",))

    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    for module in case.model.modules():
        if isinstance(module, Dropout):
            monkeypatch.setattr(module, "rate", 0.0)
    case.model.train()
    try:
        found = losses(case, *case.model(case.feats, case.feat_lens)[:2])
        for key, value in found.items():
            close(value, case.expected[f"bntrain_{key}"])
        assert str(case.expected["bntrain_name"]) == "encoder.encoders.0.conv_module.norm"
        norm = case.model.encoder.layers[0].convolution.norm
        close(norm.running_mean, case.expected["bntrain_running_mean"])
        close(norm.running_var, case.expected["bntrain_running_var"])
    finally:
        case.model.eval().load_state_dict(before)


def same(found: Hypothesis, expected: dict[str, Any]) -> None:
    assert list(found.tokens) == expected["tokens"]
    if "score" in expected:
        close(found.score, expected["score"])
    if "times" in expected:
        assert list(found.times) == expected["times"]
    if "confidence" in expected:
        assert found.confidence is not None
        close(found.confidence, expected["confidence"])
        close(np.array(found.token_confidences), expected["tokens_confidence"])


def attention_search(model: U2, encoded: Tensor, beam: int, penalty: float = 0.0) -> Hypothesis:
    """One utterance (1, T, D), with the cache behind ``step`` as the engine keeps it."""
    frames = encoded.shape[1]
    cross_keys, cross_values = model.cross(encoded)
    layers, heads, width = (cross_keys.shape[i] for i in (1, 2, 4))
    past = torch.zeros(2, beam, layers, heads, frames + 1, width)
    length = 0

    def step(tokens: Any, parents: Any) -> Any:
        nonlocal past, length
        n = len(tokens)
        past[:, :n] = past[:, torch.from_numpy(parents)]
        log_probs, keys, values = model.step(
            torch.from_numpy(tokens),
            torch.full((n,), length),
            past[0, :n],
            past[1, :n],
            cross_keys,
            cross_values,
            torch.tensor([frames]),
        )
        past[:, :n, :, :, length : length + 1] = torch.stack((keys, values))
        length += 1
        return log_probs.numpy()

    config = model.config
    return attention_beam_search(
        step, beam=beam, sos=config.sos, eos=config.eos, max_len=frames, length_penalty=penalty
    )[0]


def rescored(
    case: Case, nbest: list[Hypothesis], encoded: Tensor, ctc: float, reverse: float
) -> Hypothesis:
    longest = max(len(h.tokens) for h in nbest)
    tokens = torch.tensor([[*h.tokens, *[0] * (longest - len(h.tokens))] for h in nbest])
    lens = torch.tensor([len(h.tokens) for h in nbest])
    scores, backward = case.model.score(
        encoded, torch.tensor([encoded.shape[1]]), tokens[None], lens[None]
    )
    return rescore(
        nbest,
        scores[0].numpy(),
        None if backward is None else backward[0].numpy(),
        ctc_weight=ctc,
        reverse_weight=reverse,
    )[0]


def check_modes(case: Case, encoded: Tensor, lens: Tensor, modes: dict[str, Any]) -> None:
    settings = case.decoded["settings"]
    for row, frames in enumerate(lens.tolist()):
        one = encoded[row : row + 1, :frames]
        log_probs = case.model.ctc_log_probs(one)[0].numpy()
        same(ctc_greedy(log_probs), modes["ctc_greedy_search"][row])
        search = PrefixBeamSearch(beam=10, top_units=10)
        nbest = search.nbest(search.advance(search.start(), log_probs))
        expected = modes["ctc_prefix_beam_search"][row]
        same(nbest[0], expected)
        assert [list(h.tokens) for h in nbest] == expected["nbest"]
        assert [list(h.times) for h in nbest] == expected["nbest_times"]
        close([h.score for h in nbest], expected["nbest_scores"])
        weights = settings["ctc_weight"], settings["reverse_weight"]
        same(rescored(case, nbest, one, *weights), modes["attention_rescoring"][row])
        same(attention_search(case.model, one, 10), modes["attention"][row])


@pytest.mark.parametrize("name", STREAMING)
@pytest.mark.parametrize(
    ("key", "chunk", "left"),
    [("modes", None, None), ("modes_chunk16_left4", 16, 4), ("modes_chunk4_left2", 4, 2)],
)
def test_searches(
    cases: dict[str, Case], name: str, key: str, chunk: int | None, left: int | None
) -> None:
    case = cases[name]
    with torch.no_grad():
        check_modes(case, *case.whole(chunk, left), case.decoded[key])


def test_searches_of_the_symmetric_model(cases: dict[str, Case]) -> None:
    case = cases["conformer-batchnorm"]
    with torch.no_grad():
        check_modes(case, *case.whole(), case.decoded["modes_single"])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("score", [3.0, 6.0])
def test_rescoring_with_a_context(cases: dict[str, Case], name: str, score: float) -> None:
    case = cases[name]
    encoded = torch.from_numpy(case.expected["full_enc"])
    context = WenetContext(case.decoded["context"]["phrase_ids"], score)
    search = PrefixBeamSearch(beam=10, top_units=10, scorers=(context,))
    settings = case.decoded["settings"]
    weights = settings["ctc_weight"], settings["reverse_weight"]
    for row, frames in enumerate(case.expected["full_lens"].tolist()):
        one = encoded[row : row + 1, :frames]
        with torch.no_grad():
            log_probs = case.model.ctc_log_probs(one)[0].numpy()
            nbest = search.nbest(search.advance(search.start(), log_probs))
            # what WeNet shows is what it rescores; mynah would keep the bonus apart, and whole
            shown = [Hypothesis(h.tokens, context.replaced(h), h.times) for h in nbest]
            expected = case.decoded["context"][f"attention_rescoring_score{score}"][row]
            same(rescored(case, shown, one, *weights), expected)


@pytest.mark.parametrize("name", ALL)
def test_settings_of_searches(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    # where WeNet's encoding depends on padding, so do its numbers: take its own
    encoded = torch.from_numpy(case.expected["full_enc"])
    search = PrefixBeamSearch(beam=10, top_units=10)
    for row, frames in enumerate(case.expected["full_lens"].tolist()):
        one = encoded[row : row + 1, :frames]
        with torch.no_grad():
            log_probs = case.model.ctc_log_probs(one)[0].numpy()
            nbest = search.nbest(search.advance(search.start(), log_probs))
            expected = case.decoded["attention_rescoring_ctc0.0_rev0.0"][row]
            same(rescored(case, nbest, one, 0.0, 0.0), expected)
            expected = case.decoded["attention_beam4_lengthpenalty0.6"][row]
            same(attention_search(case.model, one, 4, 0.6), expected)
        penalised = case.decoded["blank_penalty_2.0"]
        same(ctc_greedy(log_probs, blank_penalty=2.0), penalised["ctc_greedy_search"][row])
        other = PrefixBeamSearch(beam=10, top_units=10, blank_penalty=2.0)
        found = other.nbest(other.advance(other.start(), log_probs))
        expected = penalised["ctc_prefix_beam_search"][row]
        same(found[0], expected)
        assert [list(h.tokens) for h in found] == expected["nbest"]
        close([h.score for h in found], expected["nbest_scores"])
        alignment = force_align(log_probs, case.tokens[row, : case.token_lens[row]].tolist())
        expected = case.decoded["force_align_labels"][row]
        assert alignment.path.tolist() == expected["alignment"]
