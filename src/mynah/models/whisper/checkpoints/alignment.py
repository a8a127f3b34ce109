"""Which heads of the decoder's cross-attention follow the speech, for the published models.

OpenAI found them by looking and ships them beside its checkpoints, not inside. Here they are by the
decoder's layers and heads and by the vocabulary, which tell the published models apart, but for
the first and second large one. A head is written ``layer.head``.
"""

from __future__ import annotations

from mynah.models.whisper.checkpoints.checkpoint import WhisperCheckpoint
from mynah.runtime.whisper.config import WhisperDims

_LARGE_V1 = "9.19 11.2 11.4 11.17 22.7 22.11 22.17 23.2 23.15"
# (layers, heads, vocabulary): heads
_PUBLISHED = {
    (4, 6, 51864): "1.0 2.0 2.5 3.0 3.1 3.2 3.3 3.4",  # tiny.en
    (4, 6, 51865): "2.2 3.0 3.2 3.3 3.4 3.5",  # tiny
    (6, 8, 51864): "3.3 4.7 5.1 5.5 5.7",  # base.en
    (6, 8, 51865): "3.1 4.2 4.3 4.7 5.1 5.2 5.4 5.6",  # base
    (12, 12, 51864): (  # small.en
        "6.6 7.0 7.3 7.8 8.2 8.5 8.7 9.0 9.4 9.8 9.10 10.0 10.1 10.2 10.3 10.6 10.11 11.2 11.4"
    ),
    (12, 12, 51865): "5.3 5.9 8.0 8.4 8.7 8.8 9.0 9.7 9.9 10.5",  # small
    (24, 16, 51864): (  # medium.en
        "11.4 14.1 14.12 14.14 15.4 16.0 16.4 16.9 17.12 17.14 18.7 18.10 18.15 20.0 20.3 "
        "20.9 20.14 21.12"
    ),
    (24, 16, 51865): "13.15 15.4 15.15 16.1 20.0 23.4",  # medium
    (32, 20, 51865): (  # large-v2
        "10.12 13.17 16.11 16.12 16.13 17.15 17.16 18.4 18.11 18.19 19.11 21.2 21.3 22.3 "
        "22.9 22.12 23.5 23.7 23.13 25.5 26.1 26.12 27.15"
    ),
    (32, 20, 51866): "7.0 10.17 12.18 13.12 16.1 17.14 19.11 21.4 24.1 25.6",  # large-v3
    (4, 20, 51866): "2.4 2.11 3.3 3.6 3.11 3.14",  # turbo
}


def alignment_heads(checkpoint: WhisperCheckpoint) -> tuple[tuple[int, int], ...]:
    """The heads that the checkpoint names; those of the published model of its size (also for one
    that was fine-tuned from it); else all heads of the second half of the layers.

    A distilled checkpoint may name heads of its teacher, some of which it does not have: then they
    mean nothing.
    """
    dims, named = checkpoint.dims, checkpoint.alignment_heads
    layers, heads = range(dims.n_text_layer), range(dims.n_text_head)
    if named and all(layer in layers and head in heads for layer, head in named):
        return named
    known = _PUBLISHED.get((dims.n_text_layer, dims.n_text_head, dims.n_vocab))
    encoders = {4: (4, 32), 32: (32,)}.get(dims.n_text_layer, (dims.n_text_layer,))
    if known is None or dims.n_audio_layer not in encoders or not _width_is_published(dims):
        later = range(dims.n_text_layer // 2, dims.n_text_layer)
        return tuple((layer, head) for layer in later for head in range(dims.n_text_head))
    if "large-v1" in checkpoint.path.name:
        known = _LARGE_V1
    pairs = (word.split(".") for word in known.split())
    return tuple((int(layer), int(head)) for layer, head in pairs)


def _width_is_published(dims: WhisperDims) -> bool:
    return dims.n_text_state == 64 * dims.n_text_head
