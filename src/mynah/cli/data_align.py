"""Which unit of a model sounds when: a column for recipes that name it in data.alignment.

A cell reads `sil 30 dh 5 ah 7`: units and frames of 10 ms. Utterances whose text was not heard, or
cannot be spelt in units of the model, are left out.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common
from mynah.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mynah.corpus import Cut
    from mynah.corpus.runs import Run
    from mynah.runtime.model import Model


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
    from mynah.corpus.cut import ALIASES, KNOWN
    from mynah.corpus.parallel import ordered_map
    from mynah.corpus.runs import FRAME, format_runs

    out = Path(args.out)
    if out.suffix != ".tsv":
        raise ConfigError(f"{out}: the name must end in .tsv")
    common.keep("--out", out, [args.manifest])
    if not args.column or args.column in KNOWN or args.column in ALIASES:
        raise ConfigError(f"--column: {args.column!r} means something else in a manifest")
    model = common.choice(args).load().model
    refused = Refused()
    total = count(args, [args.manifest])
    rows: list[dict[str, Any]] = []
    frames, base = 0, os.path.abspath(out.parent)
    cuts = progress(cuts_of(args, [args.manifest], refused), "aligning", total)
    least = args.min_probability
    for cut, found in ordered_map(lambda cut: (cut, _runs(model, cut, least)), cuts, args.jobs):
        if isinstance(found, InputError):
            refused(cut.id, str(found))
            continue
        rows.append({**row_from_cut(absolute(cut), base), args.column: format_runs(found)})
        frames += sum(length for _, length in found)
    code = refused.code(len(rows), args.manifest)
    write_tsv(out, rows)
    hours = frames * FRAME / 3600
    print(f"{out}: {len(rows)} of {len(rows) + refused.count} utterances, {hours:.2f} h")
    return code


def _runs(model: Model, cut: Cut, least: float) -> list[Run] | InputError:
    """Those of an utterance, or why there are none."""
    from mynah.audio import read
    from mynah.corpus import load
    from mynah.runtime.unit_runs import unit_runs

    try:
        samples = load(cut, read, rate=model.rate)
        runs, probability = unit_runs(model, samples, cut.text, cut.language or None)
    except InputError as error:
        return error
    if probability < least:
        return InputError(f"the text was not heard (probability {probability:.2g} a unit)")
    return runs
