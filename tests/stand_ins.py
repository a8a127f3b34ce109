"""What tests put in place of larger parts."""

from __future__ import annotations

import dataclasses

from mynah.runtime.result import Segment, Transcript, Word

ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-1.5 <unk>
-99 <s> -0.3
-0.9 </s>
-0.8 bad -0.2
-0.9 cab -0.1
-1.2 ab -0.3
-1.1 de 0

\\2-grams:
-0.3 <s> bad
-0.2 bad cab
-0.6 ab de
-0.4 cab </s>

\\end\\
"""


class Shouts:
    """Stands for what makes a text readable: capitals, and a full stop where it goes on."""

    @classmethod
    def load(cls, language: str, punctuation: bool, itn: bool, *, script: str | None) -> Shouts:
        return cls()

    def partial(self, text: str, words: tuple[Word, ...]) -> tuple[str, tuple[Word, ...]]:
        return text, words

    def __call__(self, segment: Segment, before: str = "") -> Segment:
        return dataclasses.replace(segment, text=segment.text.upper() + "." * bool(before))

    def transcript(self, transcript: Transcript) -> Transcript:
        segments, before = [], ""
        for segment in transcript.segments:
            segments.append(self(segment, before))
            before = segments[-1].text
        text = " ".join(segment.text for segment in segments)
        return dataclasses.replace(transcript, segments=tuple(segments), text=text)
