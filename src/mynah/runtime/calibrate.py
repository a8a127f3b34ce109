"""What is known of recognised words, for a map that makes their confidences probabilities."""

from __future__ import annotations

import numpy as np

from mynah.runtime.confidence import word_facts
from mynah.runtime.decode import Decoder, Heard
from mynah.runtime.engine import Array
from mynah.runtime.words import align_tokens, mean_confidence, pieces_of

Facts = tuple[float, float, float, float]


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
    found = []
    for text, first, stop in pieces_of(model.tokenizer, best):
        group = spans[first:stop]
        mean = mean_confidence(group) if group else None
        if mean is None:  # could not be aligned
            continue
        known = [span.confidence for span in group if span.confidence is not None]
        found.append((text, word_facts(known, group[-1].stop - group[0].first), mean))
    return found
