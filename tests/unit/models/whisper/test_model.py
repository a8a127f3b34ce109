"""The PyTorch Whisper: rows apart, a past of fixed capacity, alignment, gradients."""

from __future__ import annotations

import pytest
from tests import whisper_files as files

torch = pytest.importorskip("torch")

from mynah.models.whisper.checkpoints.names import shapes, sinusoids  # noqa: E402
from mynah.models.whisper.model import Whisper  # noqa: E402
from mynah.models.whisper.model import sinusoids as positions  # noqa: E402
from mynah.nn.weights import fill  # noqa: E402
from mynah.runtime.whisper.config import WhisperConfig  # noqa: E402

DIMS = files.DIMS


@pytest.fixture
def model() -> Whisper:
    made = Whisper(WhisperConfig(DIMS)).eval()
    weights = files.random_tensors(DIMS)
    fill(made, {name: torch.from_numpy(value) for name, value in weights.items()}, "random")
    return made


@pytest.fixture
def mels() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(3, DIMS.n_mels, 2 * DIMS.n_audio_ctx)


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 2e-4) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def test_names_shapes_and_positions() -> None:
    own = {
        name: tuple(value.shape)
        for name, value in Whisper(WhisperConfig(DIMS)).state_dict().items()
    }
    assert own == shapes(DIMS)
    assert (positions(30, 64) == sinusoids(30, 64)).all()


@torch.no_grad()
def test_neighbours_do_not_matter(model: Whisper, mels: torch.Tensor) -> None:
    lens = [48, 31, 20]  # one is odd
    padded = mels.clone()
    for row, size in enumerate(lens):
        padded[row, :, size:] = 7.0  # is not looked at
    tokens = torch.randint(0, DIMS.n_vocab, (3, 9))
    together = model(padded, torch.tensor(lens), tokens)
    encoded, found = model.encoder(padded, torch.tensor(lens))
    assert found is not None and found.tolist() == [24, 16, 10]
    for row, size in enumerate(lens):
        alone = model(mels[row : row + 1, :, :size], None, tokens[row : row + 1])
        close(together[row : row + 1], alone)
        close(encoded[row, : (size + 1) // 2], model.encoder(mels[row : row + 1, :, :size])[0][0])
    later = tokens.clone()
    later[:, 6:] = 1
    close(model(padded, torch.tensor(lens), later)[:, :6], together[:, :6])


@torch.no_grad()
def test_the_past_gives_what_the_whole_text_gives(model: Whisper, mels: torch.Tensor) -> None:
    decoder = model.decoder
    memory = decoder.memory(model.encoder(mels[:2])[0])
    tokens = torch.randint(0, DIMS.n_vocab, (6, 10))  # three texts of each of two windows
    both = decoder.memory(model.encoder(mels[:2].repeat_interleave(3, 0))[0])
    whole = decoder.logits(decoder(tokens, both))
    past = decoder.init_past(6, 12, memory)
    start = 0
    for size in (4, 1, 2, 3):
        at = torch.arange(start, start + size)
        hidden = decoder(tokens[:, start : start + size], memory, past, at)
        close(decoder.logits(hidden), whole[:, start : start + size])
        start += size


@torch.no_grad()
def test_attention_of_chosen_heads(model: Whisper, mels: torch.Tensor) -> None:
    decoder = model.decoder
    encoded, _ = model.encoder(mels[:1])
    memory, tokens = decoder.memory(encoded), torch.randint(0, DIMS.n_vocab, (2, 5))
    found, hidden = decoder.attention(tokens, memory, [(1, 0), (0, 1), (1, 1)])
    close(hidden, decoder(tokens, memory))
    assert found.shape == (2, 3, 5, DIMS.n_audio_ctx)
    close(found.sum(-1), torch.ones(2, 3, 5))
    seen: list[torch.Tensor] = []
    block = decoder.blocks[1]
    block.cross_attn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    decoder(tokens, memory)
    width = DIMS.n_text_state // DIMS.n_text_head
    q = block.cross_attn.query(seen[0])[..., :width]
    k = block.cross_attn.key(encoded)[..., :width]
    close(found[:, 0], (q @ k.transpose(1, 2) / width**0.5).softmax(-1))


def test_checkpointed_layers_have_the_same_gradients(model: Whisper, mels: torch.Tensor) -> None:
    tokens = torch.randint(0, DIMS.n_vocab, (3, 5))
    gradients = []
    for again in (False, True):
        model.zero_grad()
        encoded, _ = model.encoder(mels, checkpointed=again)
        hidden = model.decoder(tokens, model.decoder.memory(encoded), checkpointed=again)
        model.decoder.logits(hidden).logsumexp(-1).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        close(gradients[1][name], value)
