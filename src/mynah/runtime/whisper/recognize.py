"""Recordings through a Whisper model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from mynah.errors import MynahError
from mynah.runtime.aligner import Keep
from mynah.runtime.engine import Array
from mynah.runtime.offline import Cancelled, Progress, Stop
from mynah.runtime.result import Transcript, make_transcript
from mynah.runtime.sound import Audio
from mynah.runtime.whisper.plan import WhisperPlan
from mynah.runtime.whisper.transcribe import transcribe_together


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
        Cancelled: ``stop`` said so; it has what was heard until then of each recording.
    """
    kept: list[Keep] = []

    def recordings() -> Iterator[Iterator[Array]]:
        for audio in audios:
            kept.append(Keep(planned.model.rate))
            yield read(audio) if planned.aligner is None else kept[-1].pass_on(read(audio))

    def finish(number: int, transcript: Transcript) -> Transcript:
        with closing(kept[number]):
            return _finished(planned, transcript, kept[number])

    try:
        return transcribe_together(
            planned.model,
            planned,
            recordings(),
            progress=progress,
            stop=stop,
            total=total,
            finish=finish,
        )
    except Cancelled as cancelled:
        name = planned.model.info.name
        nothing = make_transcript([], language=planned.language, duration=0.0, model=name)
        rest = [nothing] * (len(audios) - len(cancelled.transcripts))
        raise Cancelled((*cancelled.transcripts, *rest)) from None
    finally:
        for one in kept:
            one.close()


def _finished(planned: WhisperPlan, transcript: Transcript, kept: Keep) -> Transcript:
    """With aligned words and readable text, where they are wanted."""
    if planned.aligner is not None:
        transcript = planned.aligner.transcript(transcript, kept)
    if planned.readable is not None:
        transcript = planned.readable.transcript(transcript)
    return transcript
