"""Makes this folder: a tiny random Whisper through CTranslate2's converter to int8_float16.

python tests/data/whisper_tiny/make.py      (needs transformers, ctranslate2, torch)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from tests import whisper_files as files  # noqa: E402


def main() -> None:
    """Write ``ctranslate2/`` and ``reference.npz``, some tensors as they were before."""
    import ctranslate2
    import transformers

    tensors = files.random_tensors(files.SMALL, seed=5)
    with tempfile.TemporaryDirectory() as work:
        folder = files.write_huggingface(Path(work) / "hf", tensors, files.SMALL)
        vocabulary = files.vocabulary()
        tokenizer = transformers.WhisperTokenizer(
            vocab={files.shown(t): i for i, t in enumerate(vocabulary.tokens)},
            merges=[(files.shown(a), files.shown(b)) for a, b in vocabulary.merges],
        )
        tokenizer.add_tokens(list(files.special_tokens()), special_tokens=True)
        tokenizer.save_pretrained(folder)
        converter = ctranslate2.converters.TransformersConverter(str(folder))
        converter.convert(str(HERE / "ctranslate2"), quantization="int8_float16", force=True)
    chosen = [n for n in tensors if n.startswith("decoder.blocks.0.cross_attn")]
    chosen += ["encoder.blocks.0.attn.key.weight", "encoder.blocks.0.attn.value.bias"]
    chosen += ["encoder.conv1.weight", "encoder.conv2.bias", "decoder.positional_embedding"]
    chosen += ["decoder.blocks.0.mlp.2.weight", "encoder.ln_post.weight", "decoder.ln.bias"]
    np.savez_compressed(
        HERE / "reference.npz", **{n: tensors[n].astype(np.float16) for n in chosen}
    )


if __name__ == "__main__":
    main()
