"""Names and shapes of a Whisper model's tensors, and Hugging Face's names for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mynah.errors import ModelError, nearest
from mynah.models.whisper.checkpoints.checkpoint import Stored, Tensors
from mynah.models.whisper.positions import sinusoids
from mynah.runtime.whisper.config import WhisperDims

# Hugging Face's part of a name: OpenAI's, inside a layer and outside
_IN_LAYER = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}
_OUTSIDE = {
    "encoder.conv1.weight": "encoder.conv1.weight",
    "encoder.conv1.bias": "encoder.conv1.bias",
    "encoder.conv2.weight": "encoder.conv2.weight",
    "encoder.conv2.bias": "encoder.conv2.bias",
    "encoder.embed_positions.weight": "encoder.positional_embedding",
    "encoder.layer_norm.weight": "encoder.ln_post.weight",
    "encoder.layer_norm.bias": "encoder.ln_post.bias",
    "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
    "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.layer_norm.weight": "decoder.ln.weight",
    "decoder.layer_norm.bias": "decoder.ln.bias",
}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")


def from_huggingface(name: str) -> str | None:
    """OpenAI's name for Hugging Face's (``model.`` in front or not); ``None`` if it has none."""
    name = name.removeprefix("model.")
    match = _LAYER.fullmatch(name)
    if match is None:
        return _OUTSIDE.get(name)
    side, layer, part, leaf = match.groups()
    if part not in _IN_LAYER:
        return None
    return f"{side}.blocks.{layer}.{_IN_LAYER[part]}.{leaf}"


def shapes(dims: WhisperDims) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a model."""
    width, wide = dims.n_audio_state, 4 * dims.n_audio_state
    result: dict[str, tuple[int, ...]] = {
        "encoder.positional_embedding": (dims.n_audio_ctx, width),
        "encoder.conv1.weight": (width, dims.n_mels, 3),
        "encoder.conv1.bias": (width,),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width,),
        **_norm("encoder.ln_post", width),
        "decoder.token_embedding.weight": (dims.n_vocab, width),
        "decoder.positional_embedding": (dims.n_text_ctx, width),
        **_norm("decoder.ln", width),
    }
    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for block in (f"{side}.blocks.{layer}" for layer in range(layers)):
            for attention in ("attn", "cross_attn") if side == "decoder" else ("attn",):
                result |= _norm(f"{block}.{attention}_ln", width)
                for part in ("query", "key", "value", "out"):
                    result[f"{block}.{attention}.{part}.weight"] = (width, width)
                    if part != "key":
                        result[f"{block}.{attention}.{part}.bias"] = (width,)
            result |= {f"{block}.mlp.0.weight": (wide, width), f"{block}.mlp.0.bias": (wide,)}
            result |= {f"{block}.mlp.2.weight": (width, wide), f"{block}.mlp.2.bias": (width,)}
            result |= _norm(f"{block}.mlp_ln", width)
    return result


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def complete(
    given: Mapping[str, Stored], dims: WhisperDims, source: object, called: Mapping[str, str]
) -> Tensors:
    """The tensors of a model: each there, with its shape, and none left over.

    The encoder's positions are computed where a file goes without. ``called`` has the file's own
    names for the lines of errors.

    Raises:
        ModelError: naming the first that is missing, left over or of another shape.
    """
    expected = shapes(dims)
    found = dict(given)
    name = "encoder.positional_embedding"
    if name not in found:
        length, width = expected[name]
        positions = Stored((length, width), np.dtype("<f4"), lambda: sinusoids(length, width))
        found[name] = positions
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{source}: has no tensor {missing[0]}{more}{nearest(missing[0], extra)}")
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise ModelError(
            f"{source}: the model has no place for tensor {called.get(extra[0], extra[0])}{more}"
        )
    for name, shape in expected.items():
        tensor = found[name]
        if tensor.shape != shape:
            raise ModelError(f"{source}: {name} is {tensor.shape}, the sizes say {shape}")
        if tensor.dtype.kind != "f":
            raise ModelError(f"{source}: {name} is of type {tensor.dtype}, not floating point")
    return Tensors({name: found[name] for name in expected})
