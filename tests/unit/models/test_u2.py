from __future__ import annotations

import numpy as np
import pytest
import torch

from mynah.config import as_dict, build
from mynah.errors import ConfigError, ModelError
from mynah.losses import ctc_loss, label_smoothing_loss
from mynah.models.u2.model import U2, DecoderConfig, EncoderConfig, U2Config

ENCODER = EncoderConfig(dim=16, heads=2, layers=2, hidden=24, kernel=5)
DECODER = DecoderConfig(layers=2, reverse_layers=1, heads=2, hidden=20)


def make(encoder: EncoderConfig = ENCODER, decoder: DecoderConfig = DECODER) -> U2:
    torch.manual_seed(0)
    return U2(U2Config(vocab_size=11, feature_dim=20, encoder=encoder, decoder=decoder)).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    feats, feat_lens = torch.randn(3, 90, 20), torch.tensor([90, 61, 3])
    tokens = torch.tensor([[3, 4, 4, 9], [5, 0, 0, 0], [7, 2, 0, 0]])
    return feats, feat_lens, tokens, torch.tensor([4, 1, 0])


def training_loss(model: U2, *rows: torch.Tensor) -> torch.Tensor:
    feats, feat_lens, tokens, token_lens = rows
    encoded, lens, _ = model(feats, feat_lens, chunk=4, left=1)
    total, _ = ctc_loss(model.ctc(encoded), lens, tokens, token_lens)
    for reverse in (False, True):
        logits = model.decode(encoded, lens, tokens, token_lens, reverse=reverse)
        targets = model.targets(tokens, token_lens, reverse=reverse)
        total = total + label_smoothing_loss(logits, targets)[0]
    return total


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "encoder",
    [
        ENCODER,
        EncoderConfig(dim=16, heads=2, layers=2, hidden=24, kernel=5, attention_dropout=0.2,
                      convolution="symmetric", convolution_norm="batch", positions="relative"),
        EncoderConfig(dim=16, heads=2, layers=2, hidden=24, macaron=False, convolution="none",
                      positions="absolute", norm_first=False),
        EncoderConfig(dim=16, heads=2, layers=2, hidden=24, kernel=4, positions="rotary"),
    ],
)  # fmt: skip
def test_training_reaches_every_parameter(encoder: EncoderConfig, autocast: bool) -> None:
    """With a row too short for one encoder frame, and, in bfloat16, losses in float32."""
    model = make(encoder).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = training_loss(model, *batch())
    assert loss.dtype == torch.float32
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # what a bias of keys adds to a query's scores is equal for all keys
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("convolution", ["causal", "symmetric"])
def test_batch_mates_and_padding_do_not_matter(convolution: str, chunk: int | None) -> None:
    encoder = EncoderConfig(
        dim=16, heads=2, layers=2, hidden=24, kernel=5, convolution_norm="batch",
        convolution=convolution,  # type: ignore[arg-type]
    )  # fmt: skip
    model = make(encoder)
    feats, feat_lens, tokens, token_lens = batch()
    with torch.no_grad():
        encoded, lens, _ = model(feats, feat_lens, chunk=chunk, left=1)
        assert lens.tolist() == [21, 14, 0]
        assert not encoded[1, 14:].any() and not encoded[2].any()
        both = model.decode(encoded, lens, tokens, token_lens)
        for row, size in enumerate((90, 61)):
            one = slice(row, row + 1)
            alone, alone_lens, _ = model(feats[one, :size], feat_lens[one], chunk=chunk, left=1)
            frames, units = int(lens[row]), int(token_lens[row])
            assert torch.allclose(alone[0], encoded[row, :frames], atol=1e-5)
            logits = model.decode(alone, alone_lens, tokens[one, :units], token_lens[one])
            assert torch.allclose(logits[0], both[row, : units + 1], atol=1e-5)


def test_palindromes_read_the_same_backwards() -> None:
    """With equal weights both decoders agree on a palindrome, and on mirrored texts."""
    model = make(decoder=DecoderConfig(layers=1, reverse_layers=1, heads=2, hidden=20))
    assert model.decoder is not None and model.reverse_decoder is not None
    model.reverse_decoder.load_state_dict(model.decoder.state_dict())
    tokens = torch.tensor([[3, 5, 5, 3, 0], [2, 3, 4, 0, 0], [4, 3, 2, 9, 9]])
    lens = torch.tensor([4, 3, 3])
    with torch.no_grad():
        encoded, encoded_lens, _ = model(torch.randn(1, 60, 20), torch.tensor([60]))
        left = model.decode(encoded, encoded_lens, tokens, lens)
        right = model.decode(encoded, encoded_lens, tokens, lens, reverse=True)
    assert torch.allclose(left[0, :5], right[0, :5], atol=1e-6)
    assert torch.allclose(left[1, :4], right[2, :4], atol=1e-6)
    assert not torch.allclose(left[1, :4], right[1, :4], atol=1e-2)
    targets = model.targets(tokens, lens, reverse=True)
    assert targets.tolist() == [
        [3, 5, 5, 3, 10, -1],
        [4, 3, 2, 10, -1, -1],
        [2, 3, 4, 10, -1, -1],
    ]


def test_scores_are_the_log_probabilities_of_texts() -> None:
    model = make()
    tokens = torch.tensor([[[3, 4, 2], [5, 0, 0]], [[0, 0, 0], [9, 9, 0]]])
    lens = torch.tensor([[3, 1], [0, 2]])
    with torch.no_grad():
        encoded, encoded_lens, _ = model(torch.randn(2, 70, 20), torch.tensor([70, 40]))
        forward, backward = model.score(encoded, encoded_lens, tokens, lens)
        assert backward is not None and forward.shape == backward.shape == (2, 2, 4)
        for b in range(2):
            for n in range(2):
                text = tokens[b, n, : int(lens[b, n])]
                for scores, reverse in ((forward, False), (backward, True)):
                    logits = model.decode(
                        encoded[b : b + 1], encoded_lens[b : b + 1], text[None],
                        torch.tensor([len(text)]), reverse=reverse,
                    )  # fmt: skip
                    target = [*(text.flip(0) if reverse else text).tolist(), 10]
                    expected = logits[0].log_softmax(-1)[range(len(target)), target]
                    assert torch.allclose(scores[b, n, : len(target)], expected, atol=1e-5)
                    assert not scores[b, n, len(target) :].any()


def test_steps_equal_teacher_forcing() -> None:
    """Hypotheses of different lengths in one call, in buffers larger than they need."""
    model = make()
    tokens = torch.tensor([[3, 4, 2, 7], [5, 1, 8, 2], [6, 6, 6, 6], [2, 9, 1, 1]])
    with torch.no_grad():
        encoded, lens, _ = model(torch.randn(2, 70, 20), torch.tensor([70, 40]))
        expected = model.decode(encoded, lens, tokens, torch.full((4,), 4)).log_softmax(-1)
        cross = model.cross(encoded)
        past = torch.full((2, 4, 2, 2, 9, 8), 99.0)  # rubbish where nothing was written
        positions = torch.zeros(4, dtype=torch.long)
        inputs = torch.cat((torch.full((4, 1), 10), tokens), 1)
        for round_ in range(7):
            active = positions <= 4
            moving = active & (torch.tensor([0, 1, 2, 2]) <= round_)  # some start later
            token = inputs[torch.arange(4), positions.clamp(max=4)]
            log_probs, keys, values = model.step(token, positions, past[0], past[1], *cross, lens)
            for n in moving.nonzero().flatten().tolist():
                place = int(positions[n])
                assert torch.allclose(log_probs[n], expected[n, place], atol=1e-5)
                past[0, n, :, :, place], past[1, n, :, :, place] = (
                    keys[n, :, :, 0],
                    values[n, :, :, 0],
                )
            positions = positions + moving.long()
        assert positions.tolist() == [5, 5, 5, 5]


def test_configuration_goes_to_toml_and_back() -> None:
    config = make().config
    assert (config.sos, config.eos) == (10, 10)
    assert build(U2Config, as_dict(config)) == config
    alone = make(decoder=DecoderConfig(layers=0))
    assert build(U2Config, as_dict(alone.config)) == alone.config
    with pytest.raises(ModelError, match="no decoder"):
        alone.cross(torch.zeros(1, 3, 16))
    with pytest.raises(ModelError, match="no right-to-left decoder"):
        make(decoder=DecoderConfig(layers=1, heads=2)).decode(
            torch.zeros(1, 3, 16), torch.tensor([3]), torch.tensor([[1]]), torch.tensor([1]),
            reverse=True,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"encoder": {"dim": 10, "heads": 4}}, "dim: 10 must be even and a multiple of heads 4"),
        ({"encoder": {"convolution": "symmetric", "kernel": 4}}, "kernel: 4 must be odd"),
        ({"encoder": {"subsampling": 3}}, "encoder.subsampling: 3 is none of 2, 4, 6, 8"),
        ({"encoder": {"position": "none"}}, "encoder.position: unknown key"),
        ({"sos": 11}, "sos: 11 is not one of 11 units"),
        ({"decoder": {"layers": 0, "reverse_layers": 1}}, "reverse_layers: needs layers"),
    ],
)
def test_wrong_configurations_are_refused(values: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build(U2Config, {"vocab_size": 11, **values})


def test_features_are_normalised() -> None:
    model = make()
    feats, lens = torch.randn(1, 50, 20), torch.tensor([50])
    with torch.no_grad():
        plain = model(feats, lens)[0]
        model.mean.fill_(2.0), model.istd.fill_(0.5)
        assert torch.allclose(model(feats / 0.5 + 2.0, lens)[0], plain, atol=1e-5)
    assert {"mean", "istd"} <= model.state_dict().keys()


def test_seeds_decide_everything() -> None:
    losses = []
    for _ in range(2):
        model = make().train()
        torch.manual_seed(9)
        losses.append(training_loss(model, *batch()).item())
    assert losses[0] == losses[1]
    assert np.isfinite(losses[0])
