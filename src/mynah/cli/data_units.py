"""The texts of manifests in a model's units, for an n-gram of them (`task.grammar` of a recipe).

A line an utterance, units between spaces, as `mynah lm train` reads it. A manifest that is given
twice counts twice. Texts that have no units are left out.
"""

from __future__ import annotations

import argparse
import random

from mynah.cli import common


def add_units_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data units``."""
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST")
    parser.add_argument("--out", required=True, metavar="FILE", help="a text file")
    parser.add_argument("--language", metavar="CODE", help="normalise as for scoring in it")
    parser.add_argument(
        "--pieces", type=common.within(0.0, 1.0), default=0.0, metavar="P",
        help="share that is cut to a run of up to 40 units, for recipes with data.crop (0)",
    )  # fmt: skip
    parser.add_argument("--root", help="folder of the sets (MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--model", default="mynah-en", metavar="M",
                        help="folder or name of a model with these units (mynah-en)")  # fmt: skip


def run_units(args: argparse.Namespace) -> int:
    """Write the text; 1 when some utterances are left out, 2 when nothing is left."""
    from mynah.cli.data_common import Refused, cuts_of
    from mynah.model_folder import find_model, read_model_folder
    from mynah.text import load_tokenizer, normalize_for_scoring
    from mynah.whole import write_whole

    common.keep("--out", args.out, args.manifests)
    folder = read_model_folder(find_model(args.model))
    tokenizer = load_tokenizer(folder.part("tokenizer"), folder.info.tokenizer)
    rng, refused, lines = random.Random(0), Refused(), list[str]()
    for cut in cuts_of(args, args.manifests, refused):
        text = normalize_for_scoring(cut.text, args.language) if args.language else cut.text
        ids = tokenizer.encode(text)
        if not ids or tokenizer.unk in ids:
            refused(cut.id, "no units spell its text")
            continue
        if rng.random() < args.pieces:
            first = rng.randrange(len(ids))
            ids = ids[first : first + rng.randint(2, 40)]
        lines.append(" ".join(tokenizer.units[unit] for unit in ids))
    code = refused.code(len(lines), args.manifests[0])
    write_whole(args.out, "\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines)} lines")
    return code
