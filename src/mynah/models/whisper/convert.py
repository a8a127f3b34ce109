"""Import of Whisper checkpoints into a model folder, with numpy alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

import numpy as np

from mynah.audio.mel import slaney_bank
from mynah.config import as_dict
from mynah.errors import ConfigError, ModelError
from mynah.model_folder import ModelInfo, write_model_folder
from mynah.models.whisper.checkpoints import WhisperCheckpoint, alignment_heads, read_checkpoint
from mynah.models.whisper.checkpoints.safetensors import write_safetensors
from mynah.models.whisper.graph_decoder import decoder_graph, write_embedding
from mynah.models.whisper.graph_encoder import encoder_graph
from mynah.models.whisper.hub import PREFIX, fetch
from mynah.runtime.whisper.config import WhisperConfig
from mynah.text.byte_bpe import Vocabulary, read_vocabulary
from mynah.text.whisper_tokenizer import WhisperTokenizer, find_tokens

Weights = Literal["keep", "fp16", "fp32"]
Precision = Literal["int8", "fp32", "both", "none"]

_RATE = 16_000  # hertz
_INSIDE = 1_000_000_000  # bytes of weights that a graph holds itself
_PRECISIONS = {"int8": ("int8",), "fp32": ("fp32",), "both": ("int8", "fp32"), "none": ()}
_ENGLISH = 51_864  # tokens of the English-only models
_LAYOUTS = {
    "openai": "OpenAI checkpoint",
    "huggingface": "Hugging Face folder",
    "ggml": "ggml file of whisper.cpp",
    "ctranslate2": "CTranslate2 folder",
}


def import_whisper(
    source: str | Path,
    target: str | Path,
    *,
    tokenizer: str | Path | None = None,
    name: str = "",
    weights: Weights = "keep",
    precision: Precision = "int8",
) -> Path:
    """Write the model folder ``target`` from a checkpoint.

    ``source`` is a file or folder of OpenAI, Hugging Face, whisper.cpp or CTranslate2, or a name
    like ``hf:openai/whisper-small``. ``tokenizer`` is a file or folder with the vocabulary, for
    checkpoints without one. ``weights``: floating point as in the checkpoint, or changed; blocks
    of a few bits become float32. ``precision`` is that of the graphs that ONNX Runtime
    computes.

    Raises:
        ModelError: the checkpoint or the vocabulary is missing or broken, or they do not fit.
        MissingDependency: a name of the hub, and huggingface_hub is not installed.
    """
    target = Path(target)
    text = str(source)
    checkpoint = read_checkpoint(fetch(text) if text.startswith(PREFIX) else source)
    _check_filters(checkpoint)
    tokens = _tokenizer(checkpoint, tokenizer)
    info = _info(checkpoint, tokens, name or target.name)
    with write_model_folder(target, info) as work:
        write_safetensors(checkpoint.tensors, work / "weights.safetensors", weights)
        for kind in _PRECISIONS[precision]:
            write_graphs(checkpoint, work, kind)
        (work / "tokenizer").mkdir()
        tokens.save(work / "tokenizer")
        (work / "CARD.md").write_text(_card(info, checkpoint), encoding="utf-8")
    return target


def write_graphs(checkpoint: WhisperCheckpoint, folder: Path, precision: str) -> None:
    """Put the graphs ``onnx/encoder.<precision>.onnx`` and ``decoder`` and the vectors of tokens,
    ``embedding.<precision>.npy``, of a checkpoint into ``folder``, one tensor in memory at a time;
    weights of more than 1 GB lie beside their graph."""
    (folder / "onnx").mkdir(exist_ok=True)
    for part, make in (("encoder", encoder_graph), ("decoder", decoder_graph)):
        graph = make(checkpoint.tensors, checkpoint.dims, int8=precision == "int8")
        path = folder / "onnx" / f"{part}.{precision}.onnx"
        graph.write(path, external=graph.size > _INSIDE)
    path = folder / "onnx" / f"embedding.{precision}.npy"
    write_embedding(checkpoint.tensors, path, int8=precision == "int8")


def _check_filters(checkpoint: WhisperCheckpoint) -> None:
    dims, filters = checkpoint.dims, checkpoint.mel_filters
    if dims.n_mels not in (80, 128):
        raise ModelError(f"{checkpoint.path}: {dims.n_mels} mels; a Whisper has 80 or 128")
    if filters is None:
        return
    ours = slaney_bank(dims.n_mels, 400, _RATE).T
    if filters.shape != ours.shape or not np.allclose(filters, ours, atol=1e-5):
        raise ModelError(f"{checkpoint.path}: its mel filters are not those of Whisper")


def _tokenizer(checkpoint: WhisperCheckpoint, given: str | Path | None) -> WhisperTokenizer:
    vocabulary = read_vocabulary(given) if given else checkpoint.vocabulary
    place = given or checkpoint.path
    if vocabulary is None:
        place = _installed(checkpoint)
        vocabulary = read_vocabulary(place)
    vocabulary = _shortened(vocabulary, checkpoint)
    try:
        return WhisperTokenizer(vocabulary, find_tokens(vocabulary, checkpoint.dims.n_vocab))
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from None


def _shortened(vocabulary: Vocabulary, checkpoint: WhisperCheckpoint) -> Vocabulary:
    """Without special tokens that a newer tokenizer has and the model does not."""
    size = checkpoint.dims.n_vocab
    kept = {name: number for name, number in vocabulary.specials.items() if number < size}
    return Vocabulary(vocabulary.tokens, vocabulary.merges, kept)


def _installed(checkpoint: WhisperCheckpoint) -> Path:
    """The vocabulary that the package openai-whisper brings along."""
    name = "gpt2" if checkpoint.dims.n_vocab == _ENGLISH else "multilingual"
    found = importlib.util.find_spec("whisper")
    for folder in found.submodule_search_locations or () if found else ():
        path = Path(folder) / "assets" / f"{name}.tiktoken"
        if path.is_file():
            return path
    raise ModelError(
        f"{checkpoint.path}: holds no (whole) vocabulary; give it by --tokenizer: a Hugging Face "
        f"folder or tokenizer.json of the same model, or openai-whisper's {name}.tiktoken"
    )


def _info(checkpoint: WhisperCheckpoint, tokens: WhisperTokenizer, name: str) -> ModelInfo:
    suppressed = checkpoint.suppress_tokens
    first = checkpoint.begin_suppress_tokens
    if suppressed is None:  # what the original does by default
        special = tokens.special
        suppressed = tuple(
            sorted(
                {*tokens.non_speech_tokens, special.transcribe, special.translate, special.sot}
                | {special.sot_prev, special.sot_lm, special.no_speech}
            )
        )
    if first is None:
        first = tuple(sorted({*tokens.encode(" "), tokens.special.eot}))
    # a setting may be of a larger vocabulary: what cannot be said need not be forbidden
    suppressed, first = (
        tuple(token for token in tokens if 0 <= token < checkpoint.dims.n_vocab)
        for tokens in (suppressed, first)
    )
    try:
        config = WhisperConfig(checkpoint.dims, alignment_heads(checkpoint), suppressed, first)
    except ConfigError as error:
        raise ModelError(f"{checkpoint.path}: {error}") from None
    languages = tuple(tokens.special.languages) if tokens.special.multilingual else ("en",)
    return ModelInfo(
        family="whisper",
        name=name,
        sample_rate=_RATE,
        languages=languages,
        config=as_dict(config),
        frontend={"kind": "whisper", "num_mels": checkpoint.dims.n_mels, "rate": _RATE},
        tokenizer=tokens.to_dict(),
    )


def _card(info: ModelInfo, checkpoint: WhisperCheckpoint) -> str:
    sizes = (np.prod(s.shape, dtype=np.int64) for s in checkpoint.tensors.stored.values())
    parameters = int(sum(sizes)) / 1e6
    languages = f"{len(info.languages)} languages" if len(info.languages) > 1 else "English only"
    return (
        f"# {info.name}\n\nImported from a {_LAYOUTS[checkpoint.layout]} by `mynah import "
        f"whisper`: a Whisper model of {parameters:.2f} M parameters, {languages}, "
        f"{info.sample_rate} Hz.\n\n"
        "Training data, licence and error rates are those of the original; the checkpoint "
        "does not say them.\n"
    )
