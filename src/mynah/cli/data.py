"""Make, check, shard and summarise training data.

A manifest is a TSV, JSON lines, a Kaldi directory, a WeNet list, lhotse cuts, or tars with or
without an index; `mynah data make` turns any of them, or a folder of recordings, into a TSV.
Relative names are taken from --root or MYNAH_DATA. Conditions choose utterances by column:
--where split=train --where 'age>=18' --exclude speaker=a,b
"""

from __future__ import annotations

import argparse

from mynah.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of ``mynah data`` and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add_make(actions)
    _add_check(actions)
    _add_shard(actions)
    _add_summary(actions)
    _add_cmvn(actions)
    _add_tokenizer(actions)
    from mynah.cli.data_align import add_align_arguments
    from mynah.cli.data_label import add_label_arguments
    from mynah.cli.data_pronounce import add_graphones_arguments, add_pronounce_arguments
    from mynah.cli.data_synthesize import add_synthesize_arguments
    from mynah.cli.data_units import add_units_arguments

    add_synthesize_arguments(
        actions.add_parser("synthesize", help="synthetic speech from a text, to train with")
    )
    add_pronounce_arguments(
        actions.add_parser("pronounce", help="how the words of a text are said, for a lexicon")
    )
    add_label_arguments(
        actions.add_parser("label", help="what a model hears becomes the text, to train with")
    )
    add_align_arguments(
        actions.add_parser("align", help="which unit of a model sounds when, to train with")
    )
    add_units_arguments(
        actions.add_parser("units", help="the texts of manifests in a model's units")
    )
    add_graphones_arguments(
        actions.add_parser("graphones", help="letters with their phones, for a model of spelling")
    )


_Actions = argparse._SubParsersAction  # what add_subparsers returns; argparse has no public name


def _common(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    metavar = "MANIFEST"
    if many:
        parser.add_argument("manifests", nargs="+", metavar=metavar)
    parser.add_argument("--root", help="folder of the sets (MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=common.within(0, 256), default=0, metavar="N",
                        help="recordings at a time (one a core)")  # fmt: skip


def _add_make(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "make", help="a manifest from a folder of recordings, or from another manifest"
    )
    parser.add_argument("source", help="folder of recordings with .txt beside them, or a manifest")
    parser.add_argument("out", help="what to write: .tsv or .jsonl")
    parser.add_argument("--language", default="", help="written into the column language")
    parser.add_argument("--split", default="", help="written into the column split")
    _jobs(parser)
    _common(parser)


def _add_check(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("check", help="decode everything and report what is wrong")
    parser.add_argument("--report", metavar="FILE", help="findings as JSON lines")
    parser.add_argument("--show", type=int, default=20, help="findings printed (20)")
    _jobs(parser)
    _common(parser, many=True)


def _add_shard(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("shard", help="write tars with an index, for large sets")
    parser.add_argument("manifest")
    parser.add_argument("out", metavar="DIR")
    parser.add_argument("--size", type=int, default=1000, help="utterances a tar (1000)")
    parser.add_argument(
        "--format",
        choices=["keep", "wav", "flac", "opus"],
        default="keep",
        help="store the recordings so (keep: as they are)",
    )
    parser.add_argument("--rate", type=int, help="hertz to store at, with --format")
    _jobs(parser)
    _common(parser)


def _add_summary(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("summary", help="hours, speakers, lengths, and what stands out")
    parser.add_argument("--outliers", type=int, default=5, help="of each kind that are shown (5)")
    parser.add_argument("--json", metavar="FILE", help="the figures as JSON")
    _common(parser, many=True)


def _add_cmvn(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("cmvn", help="mean and deviation of the features")
    parser.add_argument("--out", required=True, metavar="FILE", help=".json or .npz")
    parser.add_argument(
        "--frontend",
        default="fbank",
        metavar="KIND|FILE",
        help="fbank, mfcc, whisper or mel, or a recipe whose [frontend] is taken (fbank)",
    )
    parser.add_argument("--limit", type=int, default=0, help="utterances used, spread out (all)")
    _jobs(parser)
    _common(parser, many=True)


def _add_tokenizer(actions: _Actions[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("tokenizer", help="train BPE, or list the characters")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--kind", choices=["bpe", "char"], default="bpe")
    parser.add_argument("--size", type=int, default=500, help="units of bpe (500)")
    parser.add_argument("--model-type", choices=["unigram", "bpe"], default="unigram")
    parser.add_argument("--min-count", type=int, default=1, help="of a character, with char (1)")
    parser.add_argument("--language", default="", help="normalise texts as for scoring in it")
    parser.add_argument("--case", choices=["keep", "lower", "upper"], default="keep")
    parser.add_argument("--text", nargs="*", default=[], metavar="FILE", help="texts, a line each")
    parser.add_argument("manifests", nargs="*", metavar="MANIFEST")
    parser.add_argument("--root", help="folder of the sets (MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Do the action; 2 and one line when nothing could be done."""
    if args.action == "synthesize":
        from mynah.cli.data_synthesize import run_synthesize

        return run_synthesize(args)
    if args.action == "pronounce":
        from mynah.cli.data_pronounce import run_pronounce

        return run_pronounce(args)
    if args.action == "label":
        from mynah.cli.data_label import run_label

        return run_label(args)
    if args.action == "align":
        from mynah.cli.data_align import run_align

        return run_align(args)
    if args.action == "units":
        from mynah.cli.data_units import run_units

        return run_units(args)
    if args.action == "graphones":
        from mynah.cli.data_pronounce import run_graphones

        return run_graphones(args)
    if args.action in ("check", "summary"):
        from mynah.cli import data_show

        return data_show.check(args) if args.action == "check" else data_show.summary(args)
    from mynah.cli import data_make

    actions = {
        "make": data_make.make,
        "shard": data_make.shard,
        "cmvn": data_make.cmvn,
        "tokenizer": data_make.tokenizer,
    }
    return actions[args.action](args)
