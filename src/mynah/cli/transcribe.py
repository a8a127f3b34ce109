"""Recordings to text, with times.

FILES are recordings, directories (searched for recordings) or - for a recording on standard input.
The text goes to standard output, or with --output-dir to one file a recording and format. A
recording that cannot be read is reported and passed over; the exit code is then 1, and 2 when
nothing was transcribed. With --output-dir, what was decoded is kept there on the way (in hidden
files .NAME.part.jsonl): the same command again goes on where a run was interrupted. Windows of a
Whisper model follow from each other, and are not kept: it begins each recording again. With --live
nothing is kept: a segment of a stream depends on all that came before, so a part of one cannot be
taken up again, and a live source cannot be read twice.

The flags of whisper, faster-whisper and whisper-ctranslate2 mean here what they mean there, with
_ or -; --output_format writes files as whisper does, --format mynah's (docs/whisper.md).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common, company, layout, voices, whisper_flags
from mynah.cli.progress import Bar, progress_over
from mynah.errors import ConfigError, InputError, MissingDependency, MynahError, nearest

if TYPE_CHECKING:
    from mynah.runtime.journal import Journal
    from mynah.runtime.recognizer import Recognizer
    from mynah.runtime.request import Request
    from mynah.runtime.result import Transcript

log = logging.getLogger(__name__)

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "textgrid", "ctm")
SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".mp4", ".webm", ".mka",
    ".mkv", ".mov", ".wma", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64", ".amr",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Recordings, what to write, and how."""
    parser.add_argument("files", nargs="+", metavar="FILES", help="recordings, directories or -")
    parser.add_argument("--format", metavar="F,F",
                        help=f"of {' '.join(FORMATS)} (default: txt)")  # fmt: skip
    parser.add_argument("--output-dir", "-o", type=Path, metavar="DIR",
                        help="write files there (--verbose prints the segments too)")  # fmt: skip
    parser.add_argument("--words", action="store_true", help="a line a word with times (txt, tsv)")
    parser.add_argument("--chars", action="store_true",
                        help="times of characters too (json, textgrid)")  # fmt: skip
    parser.add_argument("--live", action="store_true", help="decode as a live stream")
    common.add_endpoint_arguments(parser)
    parser.add_argument("--channel", help="number of one channel (default: mix all)")
    parser.add_argument("--partial", action="store_true",
                        help="take what can be decoded of a damaged recording")  # fmt: skip
    parser.add_argument("--max-hours", type=common.above_zero, metavar="H",
                        default=6.0, help="refuse longer recordings (default: 6)")  # fmt: skip
    parser.add_argument("--workers", type=common.workers, default=1, metavar="N",
                        help="processes that share the recordings")  # fmt: skip
    parser.add_argument(
        "--batch",
        type=common.within(1, common.MOST_AT_ONCE),
        metavar="N",
        help="recordings computed together (default: 1; more helps on a GPU)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    layout.add_arguments(parser)
    common.add_model_arguments(parser)
    common.add_decoding_arguments(parser)
    common.add_text_arguments(parser)
    voices.add_arguments(parser)
    whisper_flags.add_option_arguments(parser)
    whisper_flags.add_other_arguments(parser)


prepare = whisper_flags.prepare
RULES = (
    common.HOTWORDS,
    company.needs(["speaker_name"], "diarization"),
    company.needs(["model_dir"], "model"),
    company.needs(["second_look"], "live"),
    company.unless(["batch"], "live"),
    *layout.rules(lambda args: _formats(args)),
    company.Rule(
        ("workers",),
        lambda args: args.workers == 1 or "-" not in args.files,
        "standard input is read by one process",
    ),
)


@dataclass(frozen=True)
class Task:
    """How to transcribe; it travels to worker processes.

    ``parts`` says where what was decoded of a recording is kept; without, nothing is.
    """

    choice: common.Choice
    args: argparse.Namespace
    parts: dict[str, Path]

    def run(
        self,
        recognizer: Recognizer,
        names: list[str],
        progress: Callable[[float, float | None], None] | None = None,
    ) -> list[Transcript | str]:
        """The transcript of each recording, or the line that says why there is none."""
        args = self.args
        from mynah.runtime.longform import LONGEST

        channel: Any = "mix" if args.channel is None else int(args.channel)
        request = self.request(recognizer)
        if recognizer.whisper is not None:
            results = recognizer.transcribe_all(
                names,
                request,
                channel=channel,
                max_seconds=args.max_hours * 3600,
                partial=args.partial,
                progress=progress,
            )
            return self._said(names, results)
        if args.live:
            return [self._live(recognizer, name, channel, request, progress) for name in names]
        journals = [self._journal(recognizer, name, request) for name in names]
        try:
            results = recognizer.transcribe_all(
                names,
                request,
                channel=channel,
                batch_seconds=max(LONGEST, 15.0 * len(names)),
                max_seconds=args.max_hours * 3600,
                partial=args.partial,
                progress=progress,
                journals=journals,
            )
        finally:
            for journal in journals:
                if journal is not None:
                    journal.close()
        return self._said(names, results)

    def request(self, recognizer: Recognizer) -> Request:
        """What the arguments ask of the model.

        Raises:
            ConfigError: it cannot do it.
        """
        args = self.args
        # plain text alone needs no times
        words = args.words or args.chars or args.diarization is not None
        if recognizer.whisper is None:
            words = words or _formats(args) != ["txt"]
        else:
            if args.batch is not None:
                raise ConfigError("--batch: a Whisper model has --batched and --batch-size")
            # whisper's own files have times of words where they are asked for
            words = words or (args.output_format is None and _formats(args) != ["txt"])
            none = args.word_timestamps == "none"
            words = words and not none
            asked = args.word_timestamps is not None or args.align_model or words
            for name in ("words", *layout.OPTIONS):
                if getattr(args, name) not in (None, False, "None") and (none or not asked):
                    raise ConfigError(f"--{name.replace('_', '-')}: needs --word-timestamps True")
        return common.request(args, recognizer, words=words, chars=args.chars)

    def _said(
        self, names: list[str], results: list[Transcript | MynahError]
    ) -> list[Transcript | str]:
        return [
            self._reason(name, result) if isinstance(result, MynahError) else result
            for name, result in zip(names, results, strict=True)
        ]

    def _live(
        self, recognizer: Recognizer, name: str, channel: Any, request: Request, progress: Any
    ) -> Transcript | str:
        try:
            return recognizer.transcribe_live(
                name,
                request,
                channel=channel,
                max_seconds=self.args.max_hours * 3600,
                partial=self.args.partial,
                progress=progress,
            )
        except (InputError, MissingDependency) as error:
            return self._reason(name, error)

    def _journal(self, recognizer: Recognizer, name: str, request: Request) -> Journal | None:
        """Where what is decoded of a recording is kept, with what it depends on."""
        from mynah import __version__
        from mynah.model_folder import read_model_folder
        from mynah.runtime.journal import Journal, recording_key

        path = self.parts.get(name)
        if path is None:
            return None
        try:
            key = recording_key(name)
        except InputError:
            return None  # a pipe, which cannot be read again, or the recogniser will say so
        engine = recognizer.model.engine
        facts = [
            sorted(read_model_folder(self.choice.find()).files.items()),
            [engine.name, self.choice.precision, self.choice.device],
            request.key(),
            self.args.channel,
        ]
        return Journal(path, {**key, "mynah": __version__, "how": digest(facts)})

    def _reason(self, name: str, error: MynahError) -> str:
        if self.args.debug:
            raise error
        line = str(error)
        return line if name == "-" or name in line else f"{name}: {line}"


def digest(facts: Any) -> str:
    """A hash of what can be written as JSON."""
    import hashlib
    import json

    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def run(args: argparse.Namespace) -> int:
    """Transcribe, print or write, and say what failed."""
    whisper_flags.settle(args)
    company.refuse(args, RULES)
    formats = _formats(args)
    names, failed = find_recordings(args.files)
    targets = _targets(names, args.output_dir) if args.output_dir else None
    _check(args, formats, names, targets)
    who = None
    if args.diarization is not None:
        who = voices.Voices(args.diarization, args.speaker_name, names)
        failed += who.missing.values()
        names = [name for name in names if name not in who.missing]
    for line in failed:
        print(line, file=sys.stderr)
    if not names:
        return 2
    at_once = _at_once(args)
    groups = [names[n : n + at_once] for n in range(0, len(names), at_once)]
    workers = 1 if "-" in names else min(args.workers, len(groups))
    parts = {} if targets is None or args.live else _parts(targets)
    task = Task(common.choice(args, workers=workers), args, parts)
    finished: list[Path] = []
    start, seconds, done = time.perf_counter(), 0.0, 0
    with progress_over(len(names), at_once, shown=not args.quiet) as progress:
        for name, result in _results(task, groups, workers, progress):
            with progress.aside():
                if not isinstance(result, str):
                    if "json" not in formats:
                        _warn(name, result)
                    problem = _deliver(name, result, formats, args, targets, len(names) > 1, who)
                    seconds += result.duration
                    done += problem is None
                    if problem is None and name in parts:
                        finished.append(parts[name])
                else:
                    problem = result
                if problem is not None:
                    failed.append(problem)
                    print(problem, file=sys.stderr)
            progress.advance()
    for part in finished:  # only now: a run that dies before goes on behind what is finished
        part.unlink(missing_ok=True)
    if done and not args.quiet:
        took = time.perf_counter() - start
        print(common.speed(seconds, took), file=sys.stderr)
    if failed and done + len(failed) > 1:  # a line alone has been read just above
        print(f"{len(failed)} of {done + len(failed)} failed:", file=sys.stderr)
        print("".join(f"  {line}\n" for line in failed), end="", file=sys.stderr)
    return 2 if done == 0 else 1 if failed else 0


def _warn(name: str, result: Transcript) -> None:
    """Say what only JSON has a place for: what was left out, or done to what was asked for."""
    left_out = sum(one.removed for one in result.suspected)
    if left_out:
        what = "a text" if left_out == 1 else f"{left_out} texts"
        log.warning(
            "%s: %s that nobody seems to say left out; JSON lists them, --guards report and "
            "--no-speech-threshold None keep them", name, what,
        )  # fmt: skip
    if "hotwords_cut" in result.notes:
        log.warning("%s: there is no room for all hotwords; the last were left out", name)
    if "prompt_cut" in result.notes:
        log.warning(
            "%s: there is no room for the whole initial prompt; its begin was left out", name
        )


def _at_once(args: argparse.Namespace) -> int:
    """How many recordings are heard together."""
    windows = args.batch_size  # of a Whisper model, which decodes those of several recordings
    return windows if isinstance(windows, int) and windows > 0 else int(args.batch or 1)


def _formats(args: argparse.Namespace) -> list[str]:
    if args.output_format is not None:
        if args.format is not None:
            raise ConfigError("--output-format: --format is the same, in mynah's layout")
        every = args.output_format == "all"
        return list(whisper_flags.FILES) if every else [args.output_format]
    given = "txt" if args.format is None else args.format
    formats = list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    for kind in formats:
        if kind not in FORMATS:
            raise ConfigError(f"--format: unknown format {kind!r}{nearest(kind, FORMATS)}")
    if not formats:
        raise ConfigError(f"--format: give one of {', '.join(FORMATS)}")
    return formats


def _check(
    args: argparse.Namespace,
    formats: list[str],
    names: list[str],
    targets: dict[str, Path] | None,
) -> None:
    from mynah.runtime.writers import SUFFIXES as ENDINGS

    if args.channel is not None and not args.channel.isdecimal():
        raise ConfigError(f"--channel: {args.channel!r} is not a number")
    if args.output_dir is None and len(formats) > 1:
        raise ConfigError("--format: several formats need --output-dir")
    if args.output_dir is None and len(names) > 1 and formats[0] in ("srt", "vtt", "textgrid"):
        raise ConfigError(f"--format: {formats[0]} of several recordings needs --output-dir")
    if args.output_dir is not None and args.output_dir.exists() and not args.output_dir.is_dir():
        raise ConfigError(f"--output-dir: {args.output_dir} is not a directory")
    for name, target in (targets or {}).items():
        for kind in formats:
            common.keep("--output-dir", target.with_name(target.name + ENDINGS[kind]), [name])


def find_recordings(names: list[str]) -> tuple[list[str], list[str]]:
    """The recordings that the arguments mean, in order, once each; and a line for each that means
    none."""
    found: dict[str, None] = {}
    failed = []
    for name in names:
        path = Path(name)
        if name not in ("", "-") and path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            inside = [p for p in inside if p.is_file()]
            if not inside:
                failed.append(f"{name}: no recordings in this directory")
            found |= dict.fromkeys(map(str, inside))
        else:
            found[name] = None  # a missing file is reported when it is read
    return list(found), failed


def _targets(names: list[str], folder: Path) -> dict[str, Path]:
    """Where the texts of each recording go, without suffix; no two to the same place."""
    stems = [Path("stdin" if name == "-" else name) for name in names]
    short = [folder / path.stem for path in stems]
    full = [folder / path.name for path in stems]
    alike = Counter(short)
    chosen = [f if alike[s] > 1 else s for s, f in zip(short, full, strict=True)]
    taken: set[Path] = set()
    last: dict[Path, int] = {}  # number that a name was given
    for number, target in enumerate(chosen):
        while chosen[number] in taken:
            last[target] = last.get(target, 1) + 1
            chosen[number] = target.with_name(f"{target.name}-{last[target]}")
        taken.add(chosen[number])
    return dict(zip(names, chosen, strict=True))


def _parts(targets: dict[str, Path]) -> dict[str, Path]:
    """Where what was decoded of each recording is kept, but for standard input."""
    from mynah.runtime.journal import journal_path

    return {name: journal_path(path) for name, path in targets.items() if name != "-"}


def _deliver(
    name: str,
    transcript: Transcript,
    formats: list[str],
    args: argparse.Namespace,
    targets: dict[str, Path] | None,
    several: bool,
    who: voices.Voices | None = None,
) -> str | None:
    """Print or write a transcript; the line that says why it could not be written, if so."""
    from mynah.runtime import writers

    form, recording = layout.chosen(args), "stdin" if name == "-" else Path(name).stem
    indent = 2 if args.pretty_json in (None, True) else None
    if who is not None:
        transcript = who(name, transcript)
    if targets is not None:
        style: writers.Style = "mynah" if args.output_format is None else "whisper"
        try:
            for kind in formats:
                target = targets[name].with_name(targets[name].name + writers.SUFFIXES[kind])
                writers.save(transcript, target, kind, words=args.words, layout=form,
                             recording=recording, style=style, indent=indent)  # fmt: skip
        except MynahError as error:
            return str(error)
        if args.verbose:
            from mynah.runtime.whisper_style import listing

            print(f"{name}:\n{listing(transcript)}" if several else listing(transcript), end="",
                  flush=True)  # fmt: skip
        return None
    if formats[0] == "json" and several:  # a line a recording
        import json

        line = {"recording": name, "transcript": transcript.to_dict()}
        print(json.dumps(line, ensure_ascii=False), flush=True)
        return None
    text = writers.render(
        transcript, formats[0], words=args.words, layout=form, recording=recording,
        indent=indent,
    )  # fmt: skip
    if several and formats[0] != "ctm":  # whose lines name the recording
        print(f"{name}:")
        text = "".join(f"  {line}\n" for line in text.splitlines())
    print(text, end="", flush=True)
    if transcript.status == "no_speech":
        print(f"{name}: no speech", file=sys.stderr)
    return None


def _results(
    task: Task, groups: list[list[str]], workers: int, progress: Bar
) -> Iterator[tuple[str, Transcript | str]]:
    """Each recording with its transcript or the reason why there is none, in order."""
    if workers == 1:
        recognizer = task.choice.load()
        for names in groups:
            yield from zip(names, task.run(recognizer, names, progress.heard), strict=True)
        return
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    task.request(task.choice.load())  # what is wrong with the model is said once, here
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(task,))
    try:
        futures = [pool.submit(_work, names) for names in groups]
        for names, future in zip(groups, futures, strict=True):
            try:
                yield from zip(names, future.result(), strict=True)
            except BrokenProcessPool:
                yield from (
                    (name, f"{name}: the process that worked on it or beside it died")
                    for name in names
                )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Task, Recognizer] | None = None  # of this process, where it is a worker


def _start_worker(task: Task) -> None:
    global _worker
    _worker = task, task.choice.load()


def _work(names: list[str]) -> list[Transcript | str]:
    assert _worker is not None
    task, recognizer = _worker
    return task.run(recognizer, names)
