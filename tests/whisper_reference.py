"""A plain Whisper in float64 numpy: what every engine is compared with.

    dims, tensors = random_whisper(seed=3)
    engine = Reference(dims, tensors)
    heard = engine.encode(mels)                      # (B, n_mels, 2 T') -> (B, T', D)
    step = engine.decoder(heard, rows=[0, 0, 1])
    logits = step(tokens)                            # (3, n) -> (3, V)

Written from the paper (A. Radford et al., arXiv:2212.04356) and the shapes of published tensors;
it shares nothing with the engines under test.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests import whisper_files as files

from mynah.decoding.whisper_prediction import HostPrediction
from mynah.runtime.whisper.config import WhisperDims

Array = npt.NDArray[Any]

# a whole window of 30 s, the vocabulary of tests/whisper_files.py, and room for 100 tokens
DIMS = WhisperDims(80, 1500, 32, 2, 1, files.TOKENS, 128, 32, 2, 2)
# the vocabulary of the published multilingual models, for comparisons with the originals
FULL = WhisperDims(80, 1500, 32, 2, 1, 51_865, 128, 32, 2, 2)
_FULL_EOT, _FULL_TIMES = 50_257, 50_364


def random_whisper(
    dims: WhisperDims = DIMS,
    seed: int = 0,
    *,
    sharp: float = 4.0,
    times: float = 0.0,
    end: float = 6.0,
) -> tuple[WhisperDims, dict[str, Array]]:
    """A random model, float32 under OpenAI's names, that behaves a little like a trained one.

    ``sharp`` is the deviation of the logits; ``times`` and ``end`` are added to those of
    timestamps and of the end of the text, so that texts have segments and end. What is heard
    changes what is said.
    """
    tensors = files.random_tensors(dims, seed)
    rng = np.random.default_rng(seed + 1000)
    width = dims.n_text_state
    eot, first = (_FULL_EOT, _FULL_TIMES) if dims.n_vocab > 50_000 else (300, dims.n_vocab - 1501)
    table = rng.standard_normal((dims.n_vocab, width)) * sharp / math.sqrt(width)
    tensors["decoder.ln.weight"][:] = 1.0
    bias = tensors["decoder.ln.bias"].astype(np.float64)
    along = bias / (bias @ bias)
    table -= np.outer(table @ bias, along)  # the bias says nothing but what follows
    table[first:] += times * along
    table[eot] += end * along
    tensors["decoder.token_embedding.weight"] = table.astype(np.float32)
    tensors["decoder.positional_embedding"] *= np.float32(8.0)
    for layer in range(dims.n_text_layer):
        tensors[f"decoder.blocks.{layer}.cross_attn.out.weight"] *= np.float32(4.0)
        tensors[f"decoder.blocks.{layer}.cross_attn.query.weight"] *= np.float32(4.0)
    return dims, tensors


def write_random(
    path: Path, layout: str, dims: WhisperDims = DIMS, seed: int = 0, **how: float
) -> Path:
    """Write :func:`random_whisper` as ``"openai"`` (a file; needs torch) or ``"huggingface"`` (a
    folder with the small vocabulary), for the importer."""
    tensors = random_whisper(dims, seed, **how)[1]
    if layout == "openai":
        return files.write_openai(path, tensors, dims)
    return files.write_huggingface(path, tensors, dims)


@dataclass(frozen=True)
class ReferenceHeard:
    """What was heard: (B, T', D), and T'."""

    output: Array
    frames: int


class Reference:
    """The engine; ``calls`` counts the passes of its decoders."""

    name = "reference"

    def __init__(self, dims: WhisperDims, tensors: dict[str, Array]) -> None:
        self.dims, self.calls, self.encoded = dims, 0, 0
        self._t = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

    def encode(self, mels: Array) -> ReferenceHeard:
        """(B, n_mels, 2 T') -> (B, T', D)."""
        self.encoded += len(mels)
        rows = [self._encode(mel.astype(np.float64).T) for mel in mels]
        return ReferenceHeard(np.stack(rows), rows[0].shape[0])

    def decoder(
        self, heard: ReferenceHeard, rows: Sequence[int], capacity: int = 448
    ) -> ReferenceDecoder:
        """A decoder whose hypothesis i hears ``rows[i]``."""
        return ReferenceDecoder(self, heard, rows, capacity)

    def _encode(self, x: Array) -> Array:
        t = self._t
        x = _gelu(_convolve(x, t["encoder.conv1.weight"], t["encoder.conv1.bias"], 1))
        x = _gelu(_convolve(x, t["encoder.conv2.weight"], t["encoder.conv2.bias"], 2))
        x = x + t["encoder.positional_embedding"][: len(x)]
        for layer in range(self.dims.n_audio_layer):
            block = f"encoder.blocks.{layer}"
            y = self.norm(x, f"{block}.attn_ln")
            keys, values = self.keys(y, f"{block}.attn"), self.values(y, f"{block}.attn")
            heads = self.dims.n_audio_head
            x = x + self.attend(y, keys, values, f"{block}.attn", heads)[0]
            x = x + self.feed_forward(x, block)
        return self.norm(x, "encoder.ln_post")

    def linear(self, x: Array, name: str) -> Array:
        bias = self._t.get(f"{name}.bias")
        return x @ self._t[f"{name}.weight"].T + (0.0 if bias is None else bias)

    def norm(self, x: Array, name: str) -> Array:
        mean = x.mean(-1, keepdims=True)
        spread = np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + 1e-5)
        return (x - mean) / spread * self._t[f"{name}.weight"] + self._t[f"{name}.bias"]

    def keys(self, x: Array, name: str) -> Array:
        return self.linear(x, f"{name}.key")

    def values(self, x: Array, name: str) -> Array:
        return self.linear(x, f"{name}.value")

    def attend(
        self,
        x: Array,
        keys: Array,
        values: Array,
        name: str,
        heads: int,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        """Queries from (n, D) over (T, D) -> (n, D) and the weights (H, n, T)."""
        size = x.shape[1] // heads
        query = self.linear(x, f"{name}.query")
        outputs, weights = [], []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ keys[:, part].T / math.sqrt(size)
            if mask is not None:
                scores = np.where(mask, scores, -np.inf)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            weights.append(scores)
            outputs.append(scores @ values[:, part])
        return self.linear(np.concatenate(outputs, -1), f"{name}.out"), np.stack(weights)

    def feed_forward(self, x: Array, block: str) -> Array:
        return self.linear(
            _gelu(self.linear(self.norm(x, f"{block}.mlp_ln"), f"{block}.mlp.0")), f"{block}.mlp.2"
        )

    def embed(self, tokens: Array, start: int) -> Array:
        place = self._t["decoder.positional_embedding"][start : start + len(tokens)]
        return self._t["decoder.token_embedding.weight"][tokens] + place

    def logits(self, x: Array) -> Array:
        return self.norm(x, "decoder.ln") @ self._t["decoder.token_embedding.weight"].T


@dataclass(frozen=True)
class _Past:
    """One hypothesis: the row that it hears and keys and values (t, D) of each layer."""

    row: int
    keys: tuple[Array, ...]
    values: tuple[Array, ...]


class ReferenceDecoder:
    """Steps hypotheses, one after the other, with the keys and values of what came before."""

    def __init__(
        self, engine: Reference, heard: ReferenceHeard, rows: Sequence[int], capacity: int
    ) -> None:
        self._engine, self._capacity, self._rows = engine, capacity, list(rows)
        none = tuple(np.zeros((0, engine.dims.n_text_state)) for _ in self._layers)
        self._past = [_Past(row, none, none) for row in rows]
        self._cross: dict[int, list[tuple[Array, Array]]] = {}
        for row in set(rows):
            sound = heard.output[row]
            names = [f"decoder.blocks.{layer}.cross_attn" for layer in self._layers]
            self._cross[row] = [(engine.keys(sound, n), engine.values(sound, n)) for n in names]

    @property
    def _layers(self) -> range:
        return range(self._engine.dims.n_text_layer)

    def __call__(
        self, tokens: Array, parents: Array | None = None, *, every: bool = False
    ) -> Array:
        """(N, n) new tokens -> logits (N, V), or (N, n, V)."""
        self._engine.calls += 1
        past = self._past if parents is None else [self._past[int(p)] for p in parents]
        assert len(past) == len(tokens), "one row of tokens a hypothesis"
        done = [self._step(np.asarray(row), one) for row, one in zip(tokens, past, strict=True)]
        self._past = [one for _, one, _ in done]
        assert len(self._past[0].keys[0]) <= self._capacity
        found = [self._engine.logits(x if every else x[-1:]) for x, _, _ in done]
        logits = np.stack(found).astype(np.float32)
        return logits if every else logits[:, 0]

    def predict(self, tokens: Array, parents: Array | None = None) -> HostPrediction:
        """What may follow (N, n) new tokens."""
        return HostPrediction(self(tokens, parents))

    def align(self, tokens: Array, heads: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """Cross-attention (N, heads, n, T') of whole sequences (N, n), and logits (N, n, V)."""
        none = tuple(np.zeros((0, self._engine.dims.n_text_state)) for _ in self._layers)
        rows = zip(tokens, self._rows, strict=True)
        found = [self._step(np.asarray(row), _Past(heard, none, none)) for row, heard in rows]
        weights = [np.stack([w[layer][head] for layer, head in heads]) for _, _, w in found]
        logits = [self._engine.logits(x).astype(np.float32) for x, _, _ in found]
        return np.stack(weights), np.stack(logits)

    def _step(self, tokens: Array, past: _Past) -> tuple[Array, _Past, list[Array]]:
        engine, heads = self._engine, self._engine.dims.n_text_head
        before, count = len(past.keys[0]), len(tokens)
        x = engine.embed(tokens, before)
        mask = np.arange(before + count)[None] <= before + np.arange(count)[:, None]
        keys, values, weights = [], [], []
        for layer in self._layers:
            block = f"decoder.blocks.{layer}"
            y = engine.norm(x, f"{block}.attn_ln")
            keys.append(np.concatenate([past.keys[layer], engine.keys(y, f"{block}.attn")]))
            values.append(np.concatenate([past.values[layer], engine.values(y, f"{block}.attn")]))
            x = x + engine.attend(y, keys[-1], values[-1], f"{block}.attn", heads, mask)[0]
            y = engine.norm(x, f"{block}.cross_attn_ln")
            added, weight = engine.attend(
                y, *self._cross[past.row][layer], f"{block}.cross_attn", heads
            )
            weights.append(weight)
            x = x + added
            x = x + engine.feed_forward(x, block)
        return x, _Past(past.row, tuple(keys), tuple(values)), weights


def _convolve(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """(T, C) -> (ceil(T / stride), D), a kernel of 3 centred on the frame."""
    padded = np.pad(x, ((1, 1), (0, 0)))
    out = sum(padded[k : k + len(x)] @ weight[:, :, k].T for k in range(3)) + bias
    return np.asarray(out[::stride])


_STEP = 1e-3


@functools.cache
def _error_function() -> tuple[Array, Array]:
    """The error function and its slope from -7 to 7."""
    points = np.arange(-7_000, 7_001) * _STEP
    values = np.array([math.erf(p) for p in points])
    return values, 2 / math.sqrt(math.pi) * np.exp(-(points**2))


def _gelu(x: Array) -> Array:
    """The exact GELU: cubic interpolation of the error function, to about 1e-13."""
    values, slopes = _error_function()
    place = np.clip(x / math.sqrt(2), -6.999, 6.999) / _STEP + 7_000
    first = place.astype(np.int64)
    t = place - first
    low, high = values[first], values[first + 1]
    rise, fall = slopes[first] * _STEP, slopes[first + 1] * _STEP
    curve = low * (1 + 2 * t) * (1 - t) ** 2 + rise * t * (1 - t) ** 2
    curve += high * t**2 * (3 - 2 * t) + fall * t**2 * (t - 1)
    return np.asarray(0.5 * x * (1 + curve))
