"""Recordings through a Whisper model, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from mynah.errors import MynahError
from mynah.runtime.aligner import Keep
from mynah.runtime.engine import Array
from mynah.runtime.offline import Cancelled, Progress, Stop, asked
from mynah.runtime.result import Transcript
from mynah.runtime.sound import Audio
from mynah.runtime.whisper.plan import WhisperPlan
from mynah.runtime.whisper.transcribe import transcribe


def transcribe_recordings(
    planned: WhisperPlan,
    audios: Sequence[Audio],
    read: Callable[[Audio], Iterator[Array]],
    total: float | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> list[Transcript | MynahError]:
    """The transcript of each recording, or the error in its place.

    ``read`` gives the blocks of a recording at the model's rate, ``total`` is what ``progress`` is
    told as the seconds that there are; ``stop`` is asked between windows.

    Raises:
        Cancelled: ``stop`` said so; it has what was heard until then.
    """
    results: list[Transcript | MynahError] = []
    before = 0.0

    def tell(done: float, _: float | None) -> None:
        if progress is not None:
            progress(before + done, total)

    for audio in audios:
        if asked(stop):
            raise Cancelled(_whole(results))
        blocks = read(audio)
        with closing(Keep(planned.model.rate)) as kept:
            if planned.aligner is not None:
                blocks = kept.pass_on(blocks)
            try:
                found = transcribe(planned.model, planned, blocks, progress=tell, stop=stop)
                results.append(_finished(planned, found, kept))
                before += found.duration
            except Cancelled as cancelled:
                raise Cancelled((*_whole(results), *cancelled.transcripts)) from None
            except MynahError as error:
                results.append(error)
    return results


def _whole(results: Sequence[Transcript | MynahError]) -> tuple[Transcript, ...]:
    return tuple(result for result in results if isinstance(result, Transcript))


def _finished(planned: WhisperPlan, transcript: Transcript, kept: Keep) -> Transcript:
    """With aligned words and readable text, where they are wanted."""
    if planned.aligner is not None:
        transcript = planned.aligner.transcript(transcript, kept)
    if planned.readable is not None:
        transcript = planned.readable.transcript(transcript)
    return transcript
