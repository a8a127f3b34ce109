"""Layers put between those of a model leave it as it was, nearly, and can be trained."""

from __future__ import annotations

import pytest
import torch

from mynah.models.u2.decoder import DecoderConfig
from mynah.models.u2.deepen import count_layers, deepen
from mynah.models.u2.encoder import EncoderConfig
from mynah.models.u2.model import U2, U2Config


def make(layers: int, kind: str = "conformer") -> U2:
    transformer = {"macaron": False, "convolution": "none"} if kind == "transformer" else {}
    torch.manual_seed(layers)
    config = EncoderConfig(
        dim=32, heads=4, layers=layers, hidden=64, subsampling_channels=8, **transformer
    )  # type: ignore[arg-type]
    return U2(U2Config(20, encoder=config, decoder=DecoderConfig(layers=0))).eval()


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
@pytest.mark.parametrize(("have", "want"), [(2, 3), (3, 7), (2, 2), (1, 4)])
def test_a_deeper_model_gives_nearly_the_same(kind: str, have: int, want: int) -> None:
    small, deep = make(have, kind), make(want, kind)
    weights = deepen(small.state_dict(), want)
    assert count_layers(weights) == want
    deep.load_state_dict(weights)
    feats, lens = torch.randn(2, 90, 80), torch.tensor([90, 61])
    one, other = small(feats, lens)[0], deep(feats, lens)[0]
    # layer normalisation starts with weights of one and biases of zero: then nothing is lost
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_every_layer_learns() -> None:
    deep = make(4)
    deep.load_state_dict(deepen(make(2).state_dict(), 4))
    deep(torch.randn(2, 90, 80), torch.tensor([90, 61]))[0].square().sum().backward()
    for name in ("attention.out.weight", "convolution.out.weight", "feed_forward.outer.weight"):
        for layer in deep.encoder.layers:
            gradient = layer.get_parameter(name).grad
            assert gradient is not None
            assert float(gradient.abs().max()) > 0


def test_scaled_normalisation_is_given_back() -> None:
    small = make(2)
    with torch.no_grad():
        for layer in small.encoder.layers:
            layer.norm_final.weight.fill_(3.0)
            layer.norm_final.bias.fill_(0.5)
    deep = make(4)
    deep.load_state_dict(deepen(small.state_dict(), 4))
    feats, lens = torch.randn(1, 70, 80), torch.tensor([70])
    torch.testing.assert_close(small(feats, lens)[0], deep(feats, lens)[0], rtol=1e-3, atol=1e-3)
