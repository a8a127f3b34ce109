"""Which unit of a model sounds when: a column for recipes that name it in data.alignment.

A cell reads `sil 30 dh 5 ah 7`: units and frames of 10 ms. Utterances whose text was not heard, or
cannot be spelt in units of the model, are left out.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common
from mynah.errors import ConfigError, InputError, MynahError

if TYPE_CHECKING:
    from mynah.corpus import Cut
    from mynah.runtime.model import Model

_Answer = Future[str]


def add_align_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data align``."""
    parser.add_argument("manifest", metavar="MANIFEST")
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest to write: .tsv")
    parser.add_argument("--column", default="units", metavar="NAME", help="its name (units)")
    parser.add_argument(
        "--min-probability", type=common.within(0.0, 1.0), default=0.05, metavar="P",
        help="geometric mean over the units (0.05)",
    )  # fmt: skip
    parser.add_argument("--jobs", type=common.within(1, 256), default=1, metavar="N",
                        help="utterances at a time (1)")  # fmt: skip
    parser.add_argument("--root", help="folder of the sets (MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip
    common.add_model_arguments(parser)


def run_align(args: argparse.Namespace) -> int:
    """Write the manifest; 1 when some utterances are left out, 2 when nothing is left."""
    from mynah.cli.data_common import Refused, absolute, count, cuts_of, progress
    from mynah.corpus import row_from_cut, write_tsv

    out = Path(args.out)
    if out.suffix != ".tsv":
        raise ConfigError(f"{out}: the name must end in .tsv")
    model = common.choice(args).load().model
    refused = Refused()
    total = count(args, [args.manifest])
    rows: list[dict[str, Any]] = []
    seconds = 0.0
    cuts = progress(cuts_of(args, [args.manifest], refused), "aligning", total)
    for cut, answer in _answers(cuts, model, args):
        try:
            cell = answer.result()
        except MynahError as error:
            refused(cut.id, str(error))
            continue
        rows.append({**row_from_cut(absolute(cut), os.path.abspath(out.parent)), args.column: cell})
        seconds += cut.duration or 0.0
    code = refused.code(len(rows), args.manifest)
    write_tsv(out, rows)
    print(f"{out}: {len(rows)} of {len(rows) + refused.count} utterances, {seconds / 3600:.2f} h")
    return code


def _answers(
    cuts: Iterable[Cut], model: Model, args: argparse.Namespace
) -> Iterator[tuple[Cut, _Answer]]:
    """The cuts in their order, each with the cell that it will have; a few are ahead."""
    with ThreadPoolExecutor(args.jobs) as pool:
        rest = iter(cuts)
        ahead = [(cut, pool.submit(_cell, model, cut, args)) for cut in islice(rest, 4 * args.jobs)]
        while ahead:
            yield ahead.pop(0)
            ahead += [(cut, pool.submit(_cell, model, cut, args)) for cut in islice(rest, 1)]


def _cell(model: Model, cut: Cut, args: argparse.Namespace) -> str:
    from mynah.audio import read
    from mynah.corpus import load
    from mynah.corpus.runs import format_runs
    from mynah.runtime.unit_runs import unit_runs

    samples = load(cut, read, rate=model.rate)
    runs, probability = unit_runs(model, samples, cut.text, cut.language or None)
    if probability < args.min_probability:
        raise InputError(f"the text was not heard (probability {probability:.2g} a unit)")
    return format_runs(runs)
