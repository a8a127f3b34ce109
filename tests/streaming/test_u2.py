"""A stream of any shape gives what the whole recording gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mynah.errors import ModelError
from mynah.models.u2.model import (
    U2,
    DecoderConfig,
    EncoderConfig,
    EncoderState,
    U2Config,
    join_states,
)
from mynah.nn.attention import Positions

CHUNK, LEFT = 3, 2


def make(
    positions: Positions = "relative_unshifted",
    subsampling: int = 4,
    kernel: int = 4,
    **encoder: object,
) -> U2:
    torch.manual_seed(5)
    config = U2Config(
        vocab_size=9,
        feature_dim=20,
        encoder=EncoderConfig(
            dim=12,
            heads=2,
            layers=3,
            hidden=16,
            kernel=kernel,
            positions=positions,
            subsampling=subsampling,  # type: ignore[arg-type]
            **encoder,  # type: ignore[arg-type]
        ),
        decoder=DecoderConfig(layers=0),
    )
    model = U2(config).eval()
    model.mean.normal_()
    model.istd.uniform_(0.5, 2.0)
    return model


@torch.no_grad()
def step(
    model: U2, feats: Tensor, lens: list[int], state: EncoderState
) -> tuple[list[Tensor], EncoderState]:
    """One step, with what lies beyond a row's frames filled with rubbish."""
    index = torch.arange(feats.shape[1])
    feats = feats.masked_fill((index >= torch.tensor(lens)[:, None])[..., None], 50.0)
    encoded, encoded_lens, after = model(feats, torch.tensor(lens), state)
    assert after is not None
    for (name, old), new in zip(state.tensors().items(), after.tensors().values(), strict=True):
        assert old.shape == new.shape and old.dtype == new.dtype, name
    return [encoded[b, : int(n)] for b, n in enumerate(encoded_lens)], after


@torch.no_grad()
def whole(model: U2, feats: Tensor, left: int | None = LEFT) -> Tensor:
    size = torch.tensor([feats.shape[0]])
    encoded, lens, _ = model(feats[None], size, chunk=CHUNK, left=left)
    return encoded[0, : int(lens)]


def windows(model: U2, frames: int) -> list[int]:
    """How many frames each step brings so that it makes CHUNK encoder frames."""
    first = (CHUNK - 1) * model.subsampling + model.overlap + 1
    sizes, stride = [min(first, frames)], CHUNK * model.subsampling
    while sum(sizes) < frames:
        sizes.append(min(stride, frames - sum(sizes)))
    return sizes


@pytest.mark.parametrize(
    "positions", ["relative_unshifted", "relative", "rotary", "absolute", "none"]
)
@pytest.mark.parametrize("subsampling", [2, 4, 6, 8])
def test_aligned_chunks_equal_the_masked_whole(positions: Positions, subsampling: int) -> None:
    model = make(positions, subsampling)
    feats = torch.randn(1, 190, 20)
    state = model.init_state(1, capacity=CHUNK * LEFT)
    parts, start = [], 0
    for size in windows(model, 190):
        (part,), state = step(model, feats[:, start : start + size], [size], state)
        parts.append(part)
        start += size
    assert torch.allclose(torch.cat(parts), whole(model, feats[0]), atol=1e-5)


@pytest.mark.parametrize("convolution", ["causal", "none"])
def test_ragged_rows_that_join_leave_and_wait(convolution: str) -> None:
    """Four streams stepped together: one waits, one starts late, one ends and starts anew."""
    model = make(convolution=convolution)
    feats = [torch.randn(n, 20) for n in (100, 131, 64, 90)]
    plans = [windows(model, len(x)) for x in feats]
    # the second waits twice, the third joins at round 2, the fourth takes the first's row
    plans[1][1:1] = [0, 0]
    state = join_states([model.init_state(1, capacity=CHUNK * LEFT) for _ in range(2)])
    rows, made = [0, 1], {k: [] for k in range(4)}  # type: ignore[var-annotated]
    fed, place = [0] * 4, [0] * 4
    for turn in range(40):
        if turn == 2:
            state = join_states([state, model.init_state(1, capacity=CHUNK * LEFT)])
            rows.append(2)
        if 0 in rows and place[0] == len(plans[0]):
            state = state.reset(torch.tensor([k == 0 for k in rows]))
            rows[rows.index(0)] = 3
        lens = [plans[k][place[k]] if place[k] < len(plans[k]) else 0 for k in rows]
        batch = torch.zeros(len(rows), max([*lens, 1]), 20)
        for b, k in enumerate(rows):
            batch[b, : lens[b]] = feats[k][fed[k] : fed[k] + lens[b]]
            fed[k] += lens[b]
            place[k] += place[k] < len(plans[k])
        parts, state = step(model, batch, lens, state)
        for k, part in zip(rows, parts, strict=True):
            made[k].append(part)
        if turn == 5:  # rows may also change places
            state, rows = state.rows(torch.tensor([2, 0, 1])), [rows[2], rows[0], rows[1]]
    assert fed == [len(x) for x in feats]
    for k in range(4):
        assert torch.allclose(torch.cat(made[k]), whole(model, feats[k]), atol=1e-5), k


def test_any_pieces_give_every_frame_once() -> None:
    """Frames that do not fill a chunk come early; only how much context they see differs."""
    model = make()
    feats = torch.randn(1, 100, 20)
    lens = model.encoder.subsampling.lens(torch.tensor([100]))
    state, parts, start = model.init_state(1, capacity=50), [], 0
    for size in (1, 1, 7, 0, 3, 40, 5, 30, 13):
        (part,), state = step(model, feats[:, start : start + max(size, 1)], [size], state)
        parts.append(part)
        start += size
    assert start == 100
    assert len(torch.cat(parts)) == int(lens) == int(state.position)


def test_one_chunk_of_everything_equals_offline() -> None:
    model = make()
    feats, lens = torch.randn(3, 80, 20), [80, 41, 0]
    parts, state = step(model, feats, lens, model.init_state(3, capacity=0))
    with torch.no_grad():
        encoded, encoded_lens, none = model(feats, torch.tensor(lens))
    assert none is None and encoded_lens.tolist() == [len(part) for part in parts]
    for b, part in enumerate(parts):
        assert torch.allclose(part, encoded[b, : len(part)], atol=1e-6)
    assert state.keys.shape[3] == 0


@pytest.mark.parametrize("positions", ["relative_unshifted", "relative", "rotary", "absolute"])
def test_two_hours_into_a_stream(positions: Positions) -> None:
    """180000 encoder frames in, positions are as exact as at the beginning."""
    model = make(positions)
    double = make(positions).double()
    sinusoid = double.encoder.sinusoid
    dim = 2 * sinusoid.turns.shape[1]
    exact = 10000.0 ** (-torch.arange(0, dim, 2).double() / dim)
    sinusoid.angles = lambda at: at[..., None].double() * exact  # type: ignore[method-assign]
    outputs = []
    for network, dtype in ((model, torch.float32), (double, torch.float64)):
        torch.manual_seed(1)
        state = network.init_state(1, capacity=CHUNK * LEFT)
        state.position += 180_000
        made = []
        for size in windows(network, 100):
            feats = torch.randn(1, size, 20, dtype=torch.float64)
            state = EncoderState(
                **{
                    k: v.to(dtype) if v.is_floating_point() else v
                    for k, v in state.tensors().items()
                }
            )
            (part,), state = step(network, feats.to(dtype), [size], state)
            made.append(part.double())
        assert int(state.position) > 180_000
        outputs.append(torch.cat(made))
    assert (outputs[0] - outputs[1]).abs().max() < 1e-3


def test_shifted_relative_positions_do_not_depend_on_the_time_of_day() -> None:
    model = make("relative")
    feats = torch.randn(1, 60, 20)
    late = model.init_state(1, capacity=6)
    late.position += 180_000
    (early,), _ = step(model, feats, [60], model.init_state(1, capacity=6))
    (found,), _ = step(model, feats, [60], late)
    assert torch.equal(early, found)


def test_symmetric_convolution_does_not_stream() -> None:
    model = make(convolution="symmetric", kernel=5)
    with pytest.raises(ModelError, match="cannot stream: its convolutions are symmetric"):
        model.init_state(1, capacity=8)
    feats = torch.randn(2, 50, 20)
    parts, _ = step(model, feats, [50, 31], model.init_state(2, capacity=0))  # offline it runs
    with torch.no_grad():
        encoded, lens, _ = model(feats, torch.tensor([50, 31]))
    for b, part in enumerate(parts):
        assert torch.allclose(part, encoded[b, : int(lens[b])], atol=1e-6)
