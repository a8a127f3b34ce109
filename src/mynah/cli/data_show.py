"""``mynah data check`` and ``summary``: what is looked at and printed."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from mynah.cli.data_common import Refused, count, cuts_of, progress
from mynah.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from mynah.corpus.check import Report
    from mynah.corpus.summary import Outlier, Summary


def check(args: argparse.Namespace) -> int:
    """Decode everything; 1 when some of it is unusable."""
    from mynah import audio
    from mynah.corpus.check import Checked, Report, check_cuts

    report = Report()
    lines: list[Checked] = []

    def refused(name: str, reason: str) -> None:
        lines.append(Checked(name, error=reason))

    cuts = cuts_of(args, args.manifests, refused)
    total = count(args, args.manifests)
    for checked in progress(check_cuts(cuts, audio.read, jobs=args.jobs), "decoding", total):
        report.add(checked)
    for checked in lines:
        report.add(checked)
    if not report.count:
        raise InputError(f"{args.manifests[0]}: no utterance meets the conditions")
    if args.report:
        _write_report(args.report, report)
    for checked in report.errors[: args.show]:
        print(f"error    {checked.id}: {checked.error}")
    for checked in report.warnings[: max(0, args.show - len(report.errors))]:
        print(f"warning  {checked.id}: {'; '.join(checked.warnings)}")
    more = len(report.errors) + len(report.warnings) - args.show
    if more > 0:
        print(f"... and {more} more{'' if args.report else ' (--report FILE has all)'}")
    rates = ", ".join(f"{rate} Hz x {n}" for rate, n in report.rates.most_common())
    good = report.count - len(report.errors)
    print(
        f"{good} of {report.count} recordings can be used, {report.seconds / 3600:.2f} h "
        f"({rates}); {len(report.errors)} errors, {len(report.warnings)} with warnings"
    )
    return 2 if good == 0 else 1 if report.errors else 0


def _write_report(path: str, report: Report) -> None:
    from mynah.corpus.table import write_jsonl

    write_jsonl(
        path,
        [
            {"id": c.id, "error": c.error or None, "warnings": list(c.warnings) or None}
            for c in [*report.errors, *report.warnings]
        ],
    )


def summary(args: argparse.Namespace) -> int:
    """Figures of a manifest, without opening recordings."""
    from rich.console import Console

    from mynah.corpus.summary import summarize

    refused = Refused()
    found = summarize(cuts_of(args, args.manifests, refused), args.outliers)
    code = refused.code(found.cuts, args.manifests[0])
    console = Console(highlight=False)
    _print_figures(console, found)
    _print_lengths(console, found)
    for title, unit, rows in (
        ("longest", "s", found.longest),
        ("shortest", "s", found.shortest),
        ("fastest", "characters/s", found.fastest),
        ("slowest", "characters/s", found.slowest),
    ):
        _print_outliers(console, title, unit, rows)
    if args.json:
        _write_json(args.json, found)
    return code


def figures(found: Summary) -> dict[str, Any]:
    """The figures of a summary under plain names."""
    named = [s for s in found.speakers if s]
    return {
        "utterances": found.cuts,
        "hours": round(found.seconds / 3600, 4),
        "speakers": len(named),
        "words": found.words,
        "different words": len(found.vocabulary),
        "different characters": len(found.characters),
        "without text": found.without_text,
        "without duration": found.without_duration,
    }


def _print_figures(console: Console, found: Summary) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in figures(found).items():
        table.add_row(name, f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
    languages = Counter({k: n for k, n in found.languages.items() if k})
    if languages:
        table.add_row("languages", ", ".join(f"{k} {n:,}" for k, n in languages.most_common(8)))
    by_time = Counter({k: round(s) for k, s in found.speakers.items() if k}).most_common(3)
    if by_time:
        table.add_row("most heard", ", ".join(f"{k} {s / 60:.1f} min" for k, s in by_time))
    console.print(table)


def _print_lengths(console: Console, found: Summary) -> None:
    from mynah.corpus.summary import bars

    rows = found.histogram()
    if not rows:
        return
    median, high = found.quantile(0.5), found.quantile(0.95)
    console.print(f"\n[bold]lengths[/bold] (half up to {median:.2f} s, 95 % up to {high:.2f} s)")
    width = max(10, min(50, console.width - 30))
    drawn = bars([n for _, _, n in rows], width)
    for (start, end, number), bar in zip(rows, drawn, strict=True):
        console.print(f"{start:6.2f} - {end:6.2f} s {number:8,} {bar}", soft_wrap=True)


def _print_outliers(console: Console, title: str, unit: str, rows: list[Outlier]) -> None:
    from rich.markup import escape

    if not rows:
        return
    console.print(f"\n[bold]{title}[/bold] ({unit})")
    for row in rows:
        text = row.text if len(row.text) <= 60 else row.text[:57] + "..."
        console.print(f"{row.value:8.2f}  {escape(row.id)}  {escape(text)}", soft_wrap=True)


def _write_json(path: str, found: Summary) -> None:
    from mynah.whole import whole_text

    values = {k.replace(" ", "_"): v for k, v in figures(found).items()}
    values["histogram"] = [[round(a, 3), round(b, 3), n] for a, b, n in found.histogram()]
    for name in ("longest", "shortest", "fastest", "slowest"):
        values[name] = [[o.id, round(o.value, 3)] for o in getattr(found, name)]
    if path == "-":
        json.dump(values, sys.stdout, ensure_ascii=False)
        return
    with whole_text(path) as stream:
        json.dump(values, stream, ensure_ascii=False)
        stream.write("\n")
