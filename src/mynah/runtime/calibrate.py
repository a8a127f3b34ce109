"""What is known of recognised words, for a map that makes their confidences probabilities."""

from __future__ import annotations

import numpy as np

from mynah.runtime.confidence import Facts
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.engine import Array
from mynah.runtime.words import align_tokens, facts_of, mean_confidence, pieces_of


def recognised(decoder: Decoder, samples: Array) -> list[tuple[str, Facts, float]]:
    """The words of one utterance (S,), the facts of each, and its confidence without a map."""
    model = decoder.model
    feats = model.frontend(samples)
    if len(feats) <= model.engine.overlap:
        return []
    out = model.engine.encode(feats[None], np.array([len(feats)], np.int64))
    length = int(out.lens[0])
    heard = Heard(out.log_probs[0, :length], out.encoded[0, :length])
    best = decoder.best([heard])[0]
    spans = align_tokens(heard.log_probs, best.tokens, model.tokenizer.blank)
    pieces = pieces_of(model.tokenizer, best)
    facts = facts_of(pieces, spans, best.evidence)
    spoken = [(text, spans[first:stop]) for text, first, stop in pieces if spans[first:stop]]
    found = []
    for (text, group), known in zip(spoken, facts, strict=True):
        mean = mean_confidence(group)
        if known is not None and mean is not None:  # else it could not be aligned
            found.append((text, known, mean))
    return found
