"""Error rate and speed of a model on a manifest.

The manifest is any that `mynah data` reads. --where and --exclude choose utterances by column
(split=test, age>=18, speaker=a,b); --group gives a row for each value of a column, or one for those
that meet a condition and one for the others.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mynah.cli import common, company, speech, whisper_flags
from mynah.errors import ConfigError, InputError, MynahError

if TYPE_CHECKING:
    from mynah.corpus import Cut
    from mynah.corpus.select import Conditions
    from mynah.evaluation import ErrorRate, Report, Unit, Utterance
    from mynah.runtime.recognizer import Recognizer
    from mynah.runtime.request import Request

AT_ONCE = 64  # utterances read before they are decoded
WORST = 5  # utterances that are shown
STREAMS = 8  # live sessions stepped together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to evaluate on, and what to print."""
    parser.add_argument("manifest", metavar="MANIFEST", help="a manifest file or folder")
    parser.add_argument("--root", metavar="DIR", help="where sets are (default: MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--group", action="append", default=[], metavar="COLUMN|CONDITION",
                        help="rates of parts of the set; may be repeated")  # fmt: skip
    parser.add_argument("--limit", type=common.positive, metavar="N", help="first N utterances")
    parser.add_argument("--unit", choices=("word", "char", "mixed"),
                        help="what is counted (default: by language)")  # fmt: skip
    parser.add_argument("--live", action="store_true", help="decode as live streams")
    parser.add_argument("--worst", type=int, metavar="N",
                        help="print the N worst utterances aligned (default: 5)")  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write all as JSON to FILE, or - for stdout")
    parser.add_argument("--record", metavar="NAME",
                        help="keep the rates in the model's own model.toml, as NAME")  # fmt: skip
    parser.add_argument("--calibrate", action="store_true",
                        help="fit the model's confidences to this set, and keep them")  # fmt: skip
    common.add_endpoint_arguments(parser)
    common.add_model_arguments(parser)
    common.add_decoding_arguments(parser)
    common.add_script_argument(parser)
    whisper_flags.add_option_arguments(parser)


prepare = whisper_flags.prepare
RULES = (
    common.HOTWORDS,
    company.needs(["second_look"], "live"),
    # which fits the confidences of the model's own search, offline
    company.unless(
        (
            *("group", "unit", "live", "worst", "json", "record", "language", "endpoint"),
            *("hotwords", "lm", "rescorer", "script", "no_vad"),
            *(f"vad_{name}" for name in speech.VAD),
        ),
        "calibrate",
    ),
    company.Rule(("worst",), lambda args: args.json != "-", "not with --json -, which has all"),
)


@dataclass
class Outcome:
    """What an evaluation found."""

    utterances: list[Utterance] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    audio: float = 0.0  # seconds of audio
    took: float = 0.0  # seconds of decoding, reading left out


def run(args: argparse.Namespace) -> int:
    """Decode the utterances, compare, print."""
    company.refuse(args, RULES)
    if args.calibrate:
        from mynah.cli import calibrate

        return calibrate.run(args)
    if args.json not in (None, "-"):
        common.keep("--json", args.json, [args.manifest])
    conditions = parse_conditions(args.where), parse_conditions(args.exclude)
    groups = dict(grouping(text) for text in args.group)
    recognizer = common.choice(args).load()
    request = common.request(args, recognizer, words=False)
    language = recognizer.language(args.language)
    if request.whisper is not None:
        language = request.whisper.written(language)
    outcome = _decode(args, recognizer, request, groups, *conditions, language)
    for line in outcome.failed:
        print(line, file=sys.stderr)
    if not outcome.utterances:
        print("no utterance with a text was decoded", file=sys.stderr)
        return 2
    report = _compared(outcome.utterances, args.unit, language)
    facts = {
        "manifest": args.manifest,
        "where": args.where,
        "exclude": args.exclude,
        "model": recognizer.info.name,
        "engine": recognizer.engine_name,
        "method": _method(recognizer, request),
        "set": args.set,
        "hotwords": args.hotwords,
        "lm": args.lm,
        "rescorer": args.rescorer,
        "vad": not args.no_vad,
        "live": args.live,
        "audio_seconds": round(outcome.audio, 3),
        "decoding_seconds": round(outcome.took, 3),
        "failed": outcome.failed,
    }
    if args.json != "-":
        _print(report, facts, list(groups), WORST if args.worst is None else args.worst)
    if args.json:
        _write_json(report, facts, list(groups), args.json)
    if args.record:
        _record(report, facts, list(groups), args)
    return 1 if outcome.failed else 0


def _code(language: str) -> str:
    """The code of a language that a manifest names in any way; what is not known stays."""
    from mynah.text.whisper_languages import language_code

    try:
        return language_code(language) if language else ""
    except ConfigError:
        return language


def _compared(utterances: list[Utterance], unit: Unit | None, language: str | None) -> Report:
    """Texts held against each other, in ``language`` or those that the utterances say; English is
    what nothing else is said of."""
    from mynah.evaluation import score, unit_of

    spoken = {u.language or language or "en" for u in utterances}
    mixed = any(unit_of(one) == "mixed" for one in spoken)
    return score(utterances, unit=unit or ("mixed" if mixed else "word"), language=language or "en")


def _method(recognizer: Recognizer, request: Request) -> str:
    """How texts are searched, for people."""
    if request.whisper is None:
        return recognizer.model.decoding_options(request.options).method
    asked = request.whisper
    search = f"beam {asked.beam_size}" if asked.beam_size > 1 else "greedy"
    search += ", batched" if asked.batched else ""
    return search + (", short context" if asked.short_context else "")


def parse_conditions(texts: list[str]) -> list[tuple[str, Any]]:
    """Conditions as :func:`mynah.corpus.matcher` takes them.

    Raises:
        ConfigError: not ``column=value``, ``column=a,b``, ``column>=number`` or the like.
    """
    found: list[tuple[str, Any]] = []
    for text in texts:
        match = re.fullmatch(r"\s*([^=<>\s]+)\s*(>=|<=|=|<|>)\s*(.+?)\s*", text)
        if match is None:
            raise ConfigError(f"condition {text!r}: write column=value, column=a,b or column>=5")
        column, sign, value = match.groups()
        several = value.split(",") if sign == "=" and "," in value else None
        found.append((column, several or (value if sign == "=" else sign + value)))
    return found


def grouping(text: str) -> tuple[str, Callable[[Cut], str]]:
    """The name of a grouping and the function that says which group a cut is in.

    Raises:
        ConfigError: a malformed condition.
    """
    from mynah.corpus import matcher

    if not re.search(r"[=<>]", text):
        return text, lambda cut: cut.value(text)
    meets = matcher(parse_conditions([text]), {})
    return text, lambda cut: "yes" if meets(cut) else "no"


def _decode(
    args: argparse.Namespace,
    recognizer: Recognizer,
    request: Request,
    groups: dict[str, Callable[[Cut], str]],
    where: Conditions,
    exclude: Conditions,
    language: str | None,
) -> Outcome:
    from mynah.corpus import read_manifest
    from mynah.evaluation import Utterance

    outcome = Outcome()

    def spoilt(name: str, reason: str) -> None:
        outcome.failed.append(f"{name}: {reason}")

    cuts = read_manifest(
        args.manifest, root=args.root, where=where, exclude=exclude, on_error=spoilt
    )
    with _Progress() as progress:
        for batch, samples in _read(cuts, recognizer.sample_rate, outcome, args.limit):
            start = time.perf_counter()
            texts = _texts(recognizer, request, samples, live=args.live)
            outcome.took += time.perf_counter() - start
            outcome.audio += sum(map(len, samples)) / recognizer.sample_rate
            for cut, text in zip(batch, texts, strict=True):
                if isinstance(text, MynahError):
                    outcome.failed.append(f"{cut.id}: {text}")
                    continue
                values = {name: which(cut) for name, which in groups.items()}
                own = _code(cut.language) if language is None else ""
                outcome.utterances.append(Utterance(cut.id, cut.text, text, values, own))
            progress.show(outcome)
    return outcome


def _read(
    cuts: Iterator[Cut], rate: int, outcome: Outcome, limit: int | None
) -> Iterator[tuple[list[Cut], list[Any]]]:
    """Cuts and their samples, so many at a time."""
    from mynah.audio import read
    from mynah.corpus import load

    batch: list[Cut] = []
    samples: list[Any] = []
    taken = 0
    for cut in cuts:
        if limit is not None and taken >= limit:
            break
        taken += 1
        if not cut.text.strip():
            outcome.failed.append(f"{cut.id}: has no text to compare with")
            continue
        try:
            samples.append(load(cut, read, rate=rate))
        except InputError as error:
            outcome.failed.append(f"{cut.id}: {error}")
            continue
        batch.append(cut)
        if len(batch) == AT_ONCE:
            yield batch, samples
            batch, samples = [], []
    if batch:
        yield batch, samples


def _texts(
    recognizer: Recognizer, request: Request, samples: list[Any], *, live: bool
) -> list[str | MynahError]:
    if not live:
        results = recognizer.transcribe_all(samples, request)
        return [r if isinstance(r, MynahError) else r.text for r in results]
    batcher = recognizer.batcher()
    texts: list[str | MynahError] = []
    for first in range(0, len(samples), STREAMS):
        part = samples[first : first + STREAMS]
        sessions = [recognizer.stream(request) for _ in part]
        batcher.feed_many(list(zip(sessions, part, strict=True)), last=True)
        texts += [session.transcript().text for session in sessions]
    return texts


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts numbers within text by value."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _rows(report: Report, groups: list[str]) -> list[tuple[str, int, ErrorRate]]:
    """Name, utterances and rate of all and of each group."""
    rows = [("all", len(report.utterances), report.total)]
    for group in groups:
        for value, rate in sorted(report.by(group).items(), key=lambda item: _natural(item[0])):
            count = sum(u.groups[group] == value for u in report.utterances)
            rows.append((f"{group}: {value}", count, rate))
    return rows


def _print(report: Report, facts: dict[str, Any], groups: list[str], worst: int) -> None:
    rows = _rows(report, groups)
    width = max(len(name) for name, _, _ in rows)
    heads = ("errors", "of", "sub", "del", "ins", "utterances")
    print(f"{'':<{width}}  {report.name:>8}" + "".join(f"{head:>11}" for head in heads))
    for name, count, rate in rows:
        numbers = (
            rate.errors, rate.total, rate.substitutions, rate.deletions, rate.insertions, count
        )  # fmt: skip
        print(f"{name:<{width}}  {rate.rate:8.2%}" + "".join(f"{n:11d}" for n in numbers))
    interval = report.interval()
    print(f"95 % of resampled sets lie between {interval.low:.2%} and {interval.high:.2%}")
    print(
        f"{facts['model']} ({facts['engine']}), {facts['method']}, "
        f"{'live' if facts['live'] else 'offline'}: "
        + common.speed(facts["audio_seconds"], facts["decoding_seconds"])
    )
    for utterance, rate in report.worst(max(worst, 0)):
        print(f"\n{utterance.id}: {rate}")
        print(report.alignment(report.utterances.index(utterance)))


def _record(
    report: Report, facts: dict[str, Any], groups: list[str], args: argparse.Namespace
) -> None:
    """The rates, in percent, into the results of the model's folder."""
    from mynah.model_folder import update_results

    rates = {name: round(100 * rate.rate, 2) for name, _, rate in _rows(report, groups)}
    how = {name: facts[name] for name in ("engine", "method", "live")}
    update_results(
        common.choice(args).find(), {args.record: {"errors": report.name, **how, **rates}}
    )


def _write_json(report: Report, facts: dict[str, Any], groups: list[str], target: str) -> None:
    import json

    from mynah.evaluation import rate_to_dict
    from mynah.whole import write_whole

    rows = {
        name: {"utterances": count, **rate_to_dict(rate)}
        for name, count, rate in _rows(report, groups)
    }
    values = facts | {"groups": rows} | report.to_dict()
    text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    if target == "-":
        print(text, end="")
    else:
        write_whole(target, text)


class _Progress:
    """How many utterances are done, in the terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            columns = ("{task.description}",)
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("reading", total=None)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        """Show what is done."""
        if self._bar is not None:
            done = f"{len(outcome.utterances)} utterances, {outcome.audio / 60:.1f} min of audio"
            self._bar.update(self._task, description=done)
