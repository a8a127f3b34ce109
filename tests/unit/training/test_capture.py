"""Layers in padded shapes, and as CUDA graphs, give what they give by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mynah.errors import ConfigError
from mynah.losses.lfmmi import Grammar, denominator, path_sums
from mynah.models.u2.decoder import DecoderConfig
from mynah.models.u2.encoder import EncoderConfig
from mynah.models.u2.model import U2, U2Config
from mynah.training.capture import CapturedLayers, CapturedSums, Inputs

LENS = [203, 100, 150, 30, 77]


def make(dropout: float = 0.0, **encoder: object) -> U2:
    torch.manual_seed(0)
    values = {"dim": 32, "heads": 4, "layers": 2, "hidden": 64, "subsampling_channels": 8}
    config = EncoderConfig(
        **{**values, "dropout": dropout, "position_dropout": 0.0, **encoder}  # type: ignore[arg-type]
    )
    return U2(U2Config(20, encoder=config, decoder=DecoderConfig(layers=0))).train()


def gradients(
    model: U2, lens: list[int], chunk: int | None, device: str = "cpu"
) -> tuple[Tensor, list[Tensor]]:
    torch.manual_seed(1)
    feats = torch.randn(len(lens), max(lens), 80).to(device)
    model.zero_grad(set_to_none=True)
    encoded, _, _ = model(feats, torch.tensor(lens, device=device), chunk=chunk, left=2)
    (encoded.square() * torch.linspace(0, 1, 32, device=device)).sum().backward()
    found = [p.grad.clone() for p in model.encoder.parameters() if p.grad is not None]
    return encoded.detach().clone(), found


def close(one: tuple[Tensor, list[Tensor]], other: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
    assert len(one[1]) == len(other[1]) > 40
    largest = max(float(g.abs().max()) for g in one[1])
    for ours, theirs in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)


class Recorded:
    """In place of a capture: the module itself, and the shapes that were asked for."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, module: nn.Module, inputs: Inputs) -> Callable[..., Tensor]:
        self.shapes.append((inputs[0].shape[0], inputs[0].shape[1]))
        return module


@pytest.mark.parametrize("chunk", [None, 8])
@pytest.mark.parametrize(
    "encoder",
    [{}, {"convolution": "symmetric", "positions": "rotary"}, {"positions": "absolute"}],
)
def test_padding_changes_nothing(chunk: int | None, encoder: dict[str, object]) -> None:
    model, recorded = make(**encoder), Recorded()
    plain = gradients(model, LENS, chunk)
    model.encoder.stack = CapturedLayers(model.encoder, recorded)
    close(gradients(model, LENS, chunk), plain)
    assert recorded.shapes == [(8, 56)]  # of 5 rows of 50 frames


def test_shapes_are_captured_once() -> None:
    model, recorded = make(), Recorded()
    model.encoder.stack = CapturedLayers(model.encoder, recorded)
    for lens in (LENS, [203] * 7, [180] * 8, LENS):
        gradients(model, lens, None)
    assert len(recorded.shapes) == 1
    gradients(model, [400], None)
    assert len(recorded.shapes) == 2
    with torch.no_grad():  # what is not trained runs as it is
        model(torch.zeros(1, 900, 80), torch.tensor([900]))
    assert len(recorded.shapes) == 2


def test_on_a_cpu_the_layers_run_as_they_are() -> None:
    model = make()
    plain = gradients(model, LENS, 8)
    model.encoder.stack = CapturedLayers(model.encoder)
    close(gradients(model, LENS, 8), plain)


def test_distances_between_frames_cannot_be_padded() -> None:
    with pytest.raises(ConfigError, match=r"task\.captured: not with positions"):
        CapturedLayers(make(positions="relative").encoder)


def sums(device: str, captured: CapturedSums | None, sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Sum and gradient of MMI for batches of so many rows and frames, the last row being short."""
    generator = torch.Generator().manual_seed(3)
    grammar = Grammar(torch.rand(6, 6, 6, generator=generator), torch.rand(6, 6)).to(device)
    grammar.ends.fill_(0.3)
    found = []
    for rows, frames in sizes:
        logits = torch.randn(rows, frames, 6, generator=generator).to(device).requires_grad_()
        lens = torch.full((rows,), frames, device=device)
        lens[-1] = frames // 2
        total = denominator(logits, lens, grammar, captured)
        total.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        found += [total.detach(), logits.grad]
    return found


SIZES = [(8, 56), (5, 50), (3, 21), (5, 48), (9, 90), (5, 50)]


def test_padded_sums_are_the_same() -> None:
    shapes = []

    def capture(given: Tensor, grammar: Grammar) -> Callable[[], tuple[Tensor, Tensor]]:
        shapes.append(tuple(given.shape[:2]))
        return lambda: path_sums(given, grammar)

    plain = sums("cpu", None, SIZES)
    for other in (CapturedSums(capture), CapturedSums()):
        for ours, theirs in zip(sums("cpu", other, SIZES), plain, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert shapes == [(8, 56), (4, 24), (8, 48), (12, 96)]
    with pytest.raises(ValueError, match="another grammar"):
        captured = CapturedSums(capture)
        for _ in range(2):
            sums("cpu", captured, SIZES[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_graphs_of_sums_give_the_sums() -> None:
    plain = sums("cpu", None, SIZES)
    for ours, theirs in zip(sums("cuda", CapturedSums(), SIZES), plain, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_graphs_give_what_the_layers_give() -> None:
    model = make().cuda()
    sizes = [LENS, [400, 30], LENS[:3], [400, 30], LENS]
    plain = [gradients(model, lens, chunk, "cuda") for lens in sizes for chunk in (None, 8)]
    model.encoder.stack = CapturedLayers(model.encoder)
    for number, (lens, chunk) in enumerate((lens, c) for lens in sizes for c in (None, 8)):
        close(gradients(model, lens, chunk, "cuda"), plain[number])
    noisy = make(dropout=0.3).cuda()
    noisy.encoder.stack = CapturedLayers(noisy.encoder)
    gradients(noisy, LENS, None, "cuda")  # captures
    first, second = (gradients(noisy, LENS, None, "cuda")[0] for _ in range(2))
    torch.testing.assert_close(first, second)  # the same seed gives the same dropout
    torch.manual_seed(2)
    feats = torch.zeros(len(LENS), max(LENS), 80, device="cuda")
    one, other = (noisy(feats, torch.tensor(LENS, device="cuda"))[0] for _ in range(2))
    assert not torch.equal(one, other)  # and another draw another
