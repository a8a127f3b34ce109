"""A tiny random Whisper and writers of every layout that checkpoints come in.

They are written from the formats' descriptions, value by value, and share nothing with the readers
under test but OpenAI's names.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mynah.runtime.whisper.config import WhisperDims
from mynah.text.byte_bpe import Vocabulary

Array = npt.NDArray[Any]
Weights = dict[str, Array]

_TEXT = (
    "the cat sat on the mat and then the rat ate that hat " * 3 + "it's 12 o'clock, über 你好 " * 2
)
LANGUAGES = ("en", "zh", "de")
_TEXT_TOKENS = 300
TOKENS = _TEXT_TOKENS + 2 + len(LANGUAGES) + 6 + 1501
DIMS = WhisperDims(80, 24, 64, 2, 1, TOKENS, 16, 64, 2, 2)
SMALL = WhisperDims(80, 8, 32, 2, 1, TOKENS, 8, 32, 2, 1)  # of tests/data/whisper_tiny


def vocabulary(size: int = _TEXT_TOKENS) -> Vocabulary:
    """The bytes and the most frequent unions of a short text."""
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[bytes, bytes]] = []
    words = [[bytes([b]) for b in f" {word}".encode()] for word in _TEXT.split()]
    while len(tokens) < size:
        pairs = Counter(pair for word in words for pair in itertools.pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        tokens.append(best[0] + best[1])
        merges.append(best)
        for word in words:
            for i in reversed(range(len(word) - 1)):
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = [best[0] + best[1]]
    return Vocabulary(tuple(tokens), tuple(merges))


def random_tensors(dims: WhisperDims = DIMS, seed: int = 0, dtype: str = "<f4") -> Weights:
    """Random values under OpenAI's names."""
    rng = np.random.default_rng(seed)
    width = dims.n_text_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.positional_embedding": (dims.n_audio_ctx, width),
        "encoder.conv1.weight": (width, dims.n_mels, 3),
        "encoder.conv1.bias": (width,),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width,),
        "encoder.ln_post.weight": (width,),
        "encoder.ln_post.bias": (width,),
        "decoder.positional_embedding": (dims.n_text_ctx, width),
        "decoder.token_embedding.weight": (dims.n_vocab, width),
        "decoder.ln.weight": (width,),
        "decoder.ln.bias": (width,),
    }
    blocks = [f"encoder.blocks.{i}" for i in range(dims.n_audio_layer)]
    blocks += [f"decoder.blocks.{i}" for i in range(dims.n_text_layer)]
    for block in blocks:
        for part in ("attn", "cross_attn") if block.startswith("decoder") else ("attn",):
            for name in ("query", "key", "value", "out"):
                shapes[f"{block}.{part}.{name}.weight"] = (width, width)
                if name != "key":
                    shapes[f"{block}.{part}.{name}.bias"] = (width,)
        for name in ("attn_ln", "mlp_ln", *(("cross_attn_ln",) if "decoder" in block else ())):
            shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
        shapes |= {f"{block}.mlp.0.weight": (4 * width, width), f"{block}.mlp.0.bias": (4 * width,)}
        shapes |= {f"{block}.mlp.2.weight": (width, 4 * width), f"{block}.mlp.2.bias": (width,)}
    return {n: (0.2 * rng.standard_normal(s)).astype(dtype) for n, s in shapes.items()}


def write_openai(path: Path, tensors: Weights, dims: WhisperDims = DIMS, **more: Any) -> Path:
    """``torch.save`` of dims and state."""
    import torch

    state = {name: torch.from_numpy(value.copy()) for name, value in tensors.items()}
    torch.save({"dims": dataclasses.asdict(dims), "model_state_dict": state, **more}, path)
    return path


_HF = (
    ("encoder.positional_embedding", "encoder.embed_positions.weight"),
    ("decoder.positional_embedding", "decoder.embed_positions.weight"),
    ("token_embedding", "embed_tokens"),
    (".blocks.", ".layers."),
    (".cross_attn_ln.", ".encoder_attn_layer_norm."),
    (".attn_ln.", ".self_attn_layer_norm."),
    (".mlp_ln.", ".final_layer_norm."),
    (".cross_attn.", ".encoder_attn."),
    (".attn.", ".self_attn."),
    (".query.", ".q_proj."),
    (".key.", ".k_proj."),
    (".value.", ".v_proj."),
    (".out.", ".out_proj."),
    (".mlp.0.", ".fc1."),
    (".mlp.2.", ".fc2."),
    ("encoder.ln_post.", "encoder.layer_norm."),
    ("decoder.ln.", "decoder.layer_norm."),
)


def hf_name(name: str) -> str:
    """Hugging Face's name of a tensor."""
    for ours, theirs in _HF:
        name = name.replace(ours, theirs)
    return f"model.{name}"


def hf_config(dims: WhisperDims = DIMS) -> dict[str, Any]:
    """A ``config.json``."""
    return {
        "model_type": "whisper",
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "d_model": dims.n_audio_state,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_layers": dims.n_audio_layer,
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "vocab_size": dims.n_vocab,
        "max_target_positions": dims.n_text_ctx,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_layers": dims.n_text_layer,
        "decoder_ffn_dim": 4 * dims.n_text_state,
        "activation_function": "gelu",
        "scale_embedding": False,
        "pad_token_id": _TEXT_TOKENS,
        "bos_token_id": _TEXT_TOKENS,
        "eos_token_id": _TEXT_TOKENS,
        "decoder_start_token_id": _TEXT_TOKENS + 1,
    }


def safetensors_bytes(tensors: Weights) -> bytes:
    """The content of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    values = b""
    for name, value in tensors.items():
        kind = {"f2": "F16", "f4": "F32", "u2": "BF16"}[value.dtype.str[1:]]
        place = [len(values), len(values) + value.nbytes]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": place}
        values += value.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def shown(token: bytes) -> str:
    """A token as Hugging Face's files write it."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    chars = {b: chr(b) for b in own}
    chars |= {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in own)}
    return "".join(chars[b] for b in token)


def write_vocab_json(folder: Path, vocab: Vocabulary, *, specials: bool = True) -> None:
    """``vocab.json``, ``merges.txt`` and ``added_tokens.json``."""
    table = {shown(token): index for index, token in enumerate(vocab.tokens)}
    (folder / "vocab.json").write_text(json.dumps(table), "utf-8")
    lines = "".join(f"{shown(a)} {shown(b)}\n" for a, b in vocab.merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, "utf-8")
    if specials:
        (folder / "added_tokens.json").write_text(json.dumps(special_tokens()), "utf-8")


def special_tokens(first: int = _TEXT_TOKENS) -> dict[str, int]:
    """The special tokens' names and numbers, in the order of the published models."""
    names = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm"]
    names += ["startofprev", "nospeech", "notimestamps", *(f"{i / 50:.2f}" for i in range(1501))]
    return {f"<|{name}|>": first + i for i, name in enumerate(names)}


def write_huggingface(
    folder: Path, tensors: Weights, dims: WhisperDims = DIMS, *, shards: int = 1, prefix: str = ""
) -> Path:
    """A folder as ``save_pretrained`` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(dims)), "utf-8")
    named = {hf_name(k).removeprefix(prefix): v for k, v in tensors.items()}
    write_vocab_json(folder, vocabulary())
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors_bytes(named))
        return folder
    places = {name: f"model-{i % shards + 1:05}.safetensors" for i, name in enumerate(named)}
    for file in set(places.values()):
        part = {name: named[name] for name, place in places.items() if place == file}
        (folder / file).write_bytes(safetensors_bytes(part))
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


BLOCKS = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8}


def quantize_block(values: Sequence[float], kind: str) -> bytes:
    """32 numbers as a block of ggml, one after the other."""
    bits = int(kind[1])
    half = 1 << (bits - 1)
    if kind.endswith("1"):
        low, high = min(values), max(values)
        scale, offset = (high - low) / (2 * half - 1) or 1.0, low
        numbers = [min(max(round((v - low) / scale), 0), 2 * half - 1) for v in values]
    else:
        scale = max(map(abs, values)) / (half - 1) or 1.0
        offset, shift = 0.0, 0 if bits == 8 else half
        numbers = [min(max(round(v / scale), -half), half - 1) + shift for v in values]
    head = struct.pack("<e", scale) + (struct.pack("<e", offset) if kind.endswith("1") else b"")
    if bits == 8:
        return head + struct.pack("<32b", *numbers)
    fifth = sum(((n >> 4) & 1) << i for i, n in enumerate(numbers))
    nibbles = bytes((numbers[i] & 15) | (numbers[i + 16] & 15) << 4 for i in range(16))
    return head + (struct.pack("<I", fifth) if bits == 5 else b"") + nibbles


def dequantize_block(block: bytes, kind: str) -> list[float]:
    """The 32 numbers of a block, one after the other, in single precision."""
    scale, at = np.float32(struct.unpack_from("<e", block)[0]), 2
    offset = np.float32(0)
    if kind.endswith("1"):
        offset, at = np.float32(struct.unpack_from("<e", block, at)[0]), at + 2
    if kind == "q8_0":
        return [float(scale * np.float32(n)) for n in struct.unpack_from("<32b", block, at)]
    fifth = 0
    if kind.startswith("q5"):
        fifth, at = struct.unpack_from("<I", block, at)[0], at + 4
    result = []
    for i in range(32):
        byte = block[at + i % 16]
        number = (byte & 15 if i < 16 else byte >> 4) | ((fifth >> i) & 1) << 4
        if not kind.endswith("1"):
            number -= 16 if kind.startswith("q5") else 8
        result.append(float(scale * np.float32(number) + offset))
    return result


def block_size(kind: str) -> int:
    """Bytes of a block."""
    return 2 + 2 * kind.endswith("1") + {"4": 16, "5": 20, "8": 32}[kind[1]]


def ggml_header(dims: WhisperDims = DIMS) -> bytes:
    """Magic number and sizes."""
    order = (dims.n_vocab, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head)
    order += (dims.n_audio_layer, dims.n_text_ctx, dims.n_text_state, dims.n_text_head)
    return struct.pack("<12i", 0x67676D6C, *order, dims.n_text_layer, dims.n_mels, 1)


def ggml_tensor(name: str, value: Array, kind: str) -> bytes:
    """A tensor with its header. Vectors and tables of positions stay f32, as in the original."""
    value = value.squeeze()
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        value = value.reshape(-1, 1)
    plain = value.ndim < 2 or "positional" in name or name.endswith("conv1.bias")
    plain = plain or name.endswith("conv2.bias")
    if plain or kind == "f32":
        code, data = 0, value.astype("<f4").tobytes()
    elif kind == "f16" or value.ndim != 2:
        code, data = 1, value.astype("<f2").tobytes()
    else:
        rows = value.astype(np.float32).reshape(-1, 32).tolist()
        code, data = BLOCKS[kind], b"".join(quantize_block(row, kind) for row in rows)
    encoded = name.encode()
    head = struct.pack("<3i", value.ndim, len(encoded), code)
    return head + struct.pack(f"<{value.ndim}i", *reversed(value.shape)) + encoded + data


def write_ggml(
    path: Path,
    tensors: Weights,
    kind: str,
    dims: WhisperDims = DIMS,
    tokens: Sequence[bytes] | None = None,
) -> Path:
    """A ggml file as whisper.cpp's converter and quantiser write it."""
    from mynah.audio.mel import slaney_bank

    filters = slaney_bank(dims.n_mels, 400, 16_000).T.astype("<f4")
    data = ggml_header(dims) + struct.pack("<2i", *filters.shape) + filters.tobytes()
    tokens = vocabulary().tokens if tokens is None else tokens
    data += struct.pack("<i", len(tokens))
    data += b"".join(struct.pack("<i", len(token)) + token for token in tokens)
    data += b"".join(ggml_tensor(name, value, kind) for name, value in tensors.items())
    path.write_bytes(data)
    return path


def ct2_variables(tensors: Weights, dims: WhisperDims, kind: str) -> dict[str, Array]:
    """CTranslate2's variables: fused, and weights of matrices as ``kind`` (int8, int16, float16,
    float32) with their scale."""
    put: dict[str, Array] = {
        "encoder/num_heads": np.int16(dims.n_audio_head),
        "decoder/num_heads": np.int16(dims.n_text_head),
        "decoder/activation": np.int8(3),
        "decoder/pre_norm": np.int8(1),
        "decoder/scale_embeddings": np.int8(0),
        "encoder/position_encodings/encodings": tensors["encoder.positional_embedding"],
        "decoder/position_encodings/encodings": tensors["decoder.positional_embedding"],
        "encoder/layer_norm/gamma": tensors["encoder.ln_post.weight"],
        "encoder/layer_norm/beta": tensors["encoder.ln_post.bias"],
        "decoder/layer_norm/gamma": tensors["decoder.ln.weight"],
        "decoder/layer_norm/beta": tensors["decoder.ln.bias"],
        "decoder/embeddings/weight": tensors["decoder.token_embedding.weight"],
    }
    for conv in ("conv1", "conv2"):
        for leaf in ("weight", "bias"):
            put[f"encoder/{conv}/{leaf}"] = tensors[f"encoder.{conv}.{leaf}"]
    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for layer in range(layers):
            _ct2_layer(put, tensors, f"{side}.blocks.{layer}", f"{side}/layer_{layer}")
    return _ct2_quantized(put, kind)


def _ct2_layer(put: dict[str, Array], tensors: Weights, ours: str, theirs: str) -> None:
    def linear(name: str, *parts: str) -> None:
        weights = [tensors[f"{ours}.{part}.weight"] for part in parts]
        zeros = np.zeros(len(weights[0]), weights[0].dtype)
        put[f"{theirs}/{name}/weight"] = np.concatenate(weights)
        biases = [tensors.get(f"{ours}.{part}.bias", zeros) for part in parts]
        put[f"{theirs}/{name}/bias"] = np.concatenate(biases)

    def norm(name: str, part: str) -> None:
        put[f"{theirs}/{name}/layer_norm/gamma"] = tensors[f"{ours}.{part}.weight"]
        put[f"{theirs}/{name}/layer_norm/beta"] = tensors[f"{ours}.{part}.bias"]

    linear("self_attention/linear_0", "attn.query", "attn.key", "attn.value")
    linear("self_attention/linear_1", "attn.out")
    norm("self_attention", "attn_ln")
    linear("ffn/linear_0", "mlp.0")
    linear("ffn/linear_1", "mlp.2")
    norm("ffn", "mlp_ln")
    if ours.startswith("decoder"):
        linear("attention/linear_0", "cross_attn.query")
        linear("attention/linear_1", "cross_attn.key", "cross_attn.value")
        linear("attention/linear_2", "cross_attn.out")
        norm("attention", "cross_attn_ln")


def _ct2_quantized(put: Mapping[str, Array], kind: str) -> dict[str, Array]:
    result: dict[str, Array] = {}
    for name, value in put.items():
        if not name.endswith("/weight") or kind == "float32":
            result[name] = value
        elif kind == "float16":
            result[name] = value.astype("<f2")
        elif kind == "int16":
            result[f"{name}_scale"] = np.float32(2**10 / np.abs(value).max())
            result[name] = np.rint(value * result[f"{name}_scale"]).astype("<i2")
        else:
            rows = value.reshape(len(value), -1)
            scale = (127 / np.abs(rows).max(axis=1)).astype("<f4")
            result[f"{name}_scale"] = scale
            result[name] = np.rint(rows * scale[:, None]).astype("i1").reshape(value.shape)
    return result


def ct2_bytes(
    variables: Mapping[str, Array], *, spec: str = "WhisperSpec", version: int = 6
) -> bytes:
    """The content of a ``model.bin``; the output layer is a second name of the embedding."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    types = ("<f4", "|i1", "<i2", "<i4", "<f2")
    data = struct.pack("<I", version) + string(spec) + struct.pack("<2I", 3, len(variables))
    for name, value in sorted(variables.items()):
        value = np.asarray(value)
        data += string(name) + struct.pack("<B", value.ndim)
        data += struct.pack(f"<{value.ndim}I", *value.shape)
        data += struct.pack("<BI", types.index(value.dtype.str), value.nbytes) + value.tobytes()
    data += struct.pack("<I", 1)
    return data + string("decoder/projection/weight") + string("decoder/embeddings/weight")


def write_ctranslate2(folder: Path, tensors: Weights, kind: str, dims: WhisperDims = DIMS) -> Path:
    """A folder as CTranslate2's converter writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(ct2_bytes(ct2_variables(tensors, dims, kind)))
    config = {"suppress_ids": [3, 5], "suppress_ids_begin": [32], "alignment_heads": [[1, 0]]}
    (folder / "config.json").write_text(json.dumps(config | {"lang_ids": [302]}), "utf-8")
    write_vocab_json(folder, vocabulary(), specials=False)
    table = json.loads((folder / "vocab.json").read_text("utf-8"))
    names = [*sorted(table, key=table.__getitem__), *special_tokens()]
    (folder / "vocabulary.json").write_text(json.dumps(names), "utf-8")
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    return folder
