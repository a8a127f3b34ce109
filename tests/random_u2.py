"""A small U2++ model with random weights that hears letters in any noise, exported to ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mynah.config import as_dict
from mynah.export.folder import export_folder
from mynah.model_folder import ModelInfo, read_model_folder, write_model_folder
from mynah.models.load import write_weights
from mynah.models.u2.model import U2, DecoderConfig, EncoderConfig, U2Config
from mynah.text import char_tokenizer


def write_random_u2(root: Path) -> Path:
    """Write it under ``root``; in fp32 and int8, with its weights."""
    tokenizer = char_tokenizer(["abcdefgh ijkl mnop"])
    torch.manual_seed(3)
    config = U2Config(
        tokenizer.vocab_size,
        encoder=EncoderConfig(dim=24, heads=2, layers=2, hidden=48, kernel=5),
        decoder=DecoderConfig(layers=1, reverse_layers=1, heads=2, hidden=48),
    )
    model = U2(config).eval()
    model.mean.fill_(15.0)
    model.istd.fill_(0.3)
    torch.nn.init.normal_(model.ctc.weight, std=2.0)  # so that units win over the blank
    info = ModelInfo(
        "u2", "random", 16000, ("en",), config=as_dict(config), frontend={"kind": "fbank"},
        tokenizer=tokenizer.to_dict(), streaming={"chunk": 4, "left": 2},
        decoding={"method": "rescoring", "reverse_weight": 0.3}, voice_activity=False,
    )  # fmt: skip
    with write_model_folder(root / "random", info) as work:
        write_weights(model.state_dict(), work / "weights.safetensors")
        tokenizer.save(work / "tokenizer")
    export_folder(read_model_folder(root / "random"), root / "exported", weights=True)
    return root / "exported"


def noises(lengths: tuple[float, ...] = (1.1, 2.0, 0.6, 3.3, 1.7)) -> list[np.ndarray]:
    """Noise (S,) of changing loudness, of each length in seconds."""
    rng = np.random.default_rng(0)
    found = []
    for seconds in lengths:
        loudness = np.repeat(rng.uniform(0, 0.2, int(seconds * 10)), 1600)
        found.append((rng.standard_normal(len(loudness)) * loudness).astype(np.float32))
    return found
