"""Recordings through a Whisper model, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from mynah.audio.files import Channel
from mynah.errors import MynahError
from mynah.runtime.aligner import Keep
from mynah.runtime.offline import Cancelled, Progress, Stop, asked, total_seconds
from mynah.runtime.result import Transcript
from mynah.runtime.sound import Audio, seconds_of, sound_blocks
from mynah.runtime.whisper.plan import WhisperPlan
from mynah.runtime.whisper.transcribe import transcribe


def transcribe_recordings(
    planned: WhisperPlan,
    audios: Sequence[Audio],
    *,
    rate: int | None,
    channel: Channel,
    max_seconds: float,
    partial: bool,
    progress: Progress | None,
    stop: Stop | None,
) -> list[Transcript | MynahError]:
    """The transcript of each recording, or the error in its place; the arguments are those of
    :meth:`mynah.runtime.recognizer.Recognizer.transcribe_all`.

    Raises:
        Cancelled: ``stop`` said so; it has what was heard until then.
    """
    own = planned.model.frontend.rate
    total = None
    if progress is not None:
        total = total_seconds(seconds_of(audio, rate or own) for audio in audios)
    results: list[Transcript | MynahError] = []
    before = 0.0

    def tell(done: float, _: float | None) -> None:
        if progress is not None:
            progress(before + done, total)

    for audio in audios:
        if asked(stop):
            raise Cancelled(_whole(results))
        blocks = sound_blocks(
            audio,
            own,
            samples_rate=rate,
            channel=channel,
            max_seconds=max_seconds,
            partial=partial,
        )
        with closing(Keep(own)) as kept:
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
