"""How the words of a text are said: a table for `mynah lexicon`.

Words come from a dictionary as CMUdict is, or, when it lacks them, from letter-to-sound rules
learned from it. The phones are the 39 of ARPAbet, without stress, as the tokenizer `phone` has.

Chinese (--language zh, needs pypinyin) has no such dictionary: the table is one, of the hanzi as
they are read in TEXT and the words where they are read otherwise; it is the `dictionary` of the
tokenizer. Units are initials, finals and tones.
"""

from __future__ import annotations

import argparse

from mynah.cli.common import keep
from mynah.errors import ConfigError, InputError


def add_pronounce_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data pronounce``."""
    parser.add_argument(
        "texts", nargs="+", metavar="TEXT", help="sentences, one a line (.txt, .xz)"
    )
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of TEXT (en)")
    parser.add_argument("--dictionary", metavar="FILE", help="as CMUdict has it (English)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the table to write")
    parser.add_argument("--limit", type=int, default=100_000, help="words, by frequency (100000)")
    parser.add_argument(
        "--known", type=int, default=2, metavar="N", help="of the dictionary: N times or more (2)"
    )
    parser.add_argument(
        "--others", type=int, default=3, metavar="N", help="of the others: N times or more (3)"
    )
    parser.add_argument("--variants", type=int, default=4, help="pronunciations of a word (4)")


def run_pronounce(args: argparse.Namespace) -> int:
    """Write the table; 0 when done.

    Raises:
        InputError: there is no word for it.
    """
    keep("--out", args.out, args.texts)
    if args.language == "zh":
        return _pronounce_chinese(args)
    if args.dictionary is None:
        raise ConfigError("--dictionary: missing")
    from mynah.text.pronounce import learn_pronouncer
    from mynah.text.vocabulary import (
        VocabularyOptions,
        choose_words,
        count_words,
        write_pronunciations,
    )

    options = VocabularyOptions(args.limit, args.known, args.others, args.variants)
    say = learn_pronouncer(args.dictionary)
    counts = count_words(args.texts)
    words = choose_words(counts, say, options)
    if not words:
        raise InputError(
            f"no word is there often enough: {len(counts)} are there, the commonest "
            f"{max(counts.values(), default=0)} times; see --known and --others"
        )
    lines = write_pronunciations(args.out, words, say, variants=options.variants)
    by_rule = sum(not say.known(word) for word in words)
    part = sum(counts[word] for word in words) / max(1, counts.total())
    print(f"{args.out}: {len(words)} words in {lines} pronunciations, {by_rule} of them by rule")
    print(f"  they are {part:.2%} of the running words of the text; {len(counts) - len(words)} are "
          "left out, too rare or too many (--known, --others, --limit)")  # fmt: skip
    return 0


def _pronounce_chinese(args: argparse.Namespace) -> int:
    from mynah.cli.lm import read_lines
    from mynah.text.hanzi import write_hanzi_dictionary
    from mynah.text.pinyin import readings_in

    entries = readings_in(
        line for path in args.texts for line in read_lines(path) if not line.startswith("#")
    )
    entries = [(word, readings[: args.variants]) for word, readings in entries]
    lines = write_hanzi_dictionary(args.out, entries)
    single = sum(len(word) == 1 for word, _ in entries)
    print(f"{args.out}: {single} hanzi and {len(entries) - single} words in {lines} readings")
    return 0


def add_graphones_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data graphones``."""
    parser.add_argument("dictionary", metavar="FILE", help="as CMUdict has it (plain or .xz)")
    parser.add_argument("--out", required=True, metavar="FILE", help="a line a pronunciation")
    parser.add_argument(
        "--min-count", type=int, default=5, metavar="N", help="graphones that are there N times (5)"
    )


def run_graphones(args: argparse.Namespace) -> int:
    """Write the words of a dictionary as graphones, what ``mynah lm train`` reads; 0 when done."""
    from mynah.text.graphones import graphones
    from mynah.text.pronounce import read_dictionary
    from mynah.whole import write_whole

    keep("--out", args.out, [args.dictionary])
    words = sorted(read_dictionary(args.dictionary).items())
    pairs = [(word, phones) for word, variants in words for phones in variants]
    lines = [" ".join(names) for _, names in graphones(pairs, min_count=args.min_count)]
    kinds = len({name for line in lines for name in line.split()})
    write_whole(args.out, "\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines)} of {len(pairs)} pronunciations, {kinds} graphones")
    return 0
