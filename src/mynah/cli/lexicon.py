"""A lexicon of words, and a language model, for a model folder.

The folder that is written is searched for these words by default (method=lexicon). A table has a
line a pronunciation: word, tab, units between spaces; a list has a word a line, which the model's
tokenizer spells; without either, the words are those of the language model.

    mynah lexicon my-model out --words words.txt --ngram words.arpa --set lm_weight=0.8

A neural language model (family lm), which ranks what was found, is added to it, or by itself to a
model that has a lexicon:

    mynah lexicon mynah-en out --rescorer my-lm --set rescorer_share=0.5

A model that was trained on from another one may have its words, language models and options:

    mynah lexicon exported out --like mynah-en
"""

from __future__ import annotations

import argparse

from mynah.cli import company

RULES = (
    company.unless(["rescorer", "ngram", "spelling", "graph", "boundary"], "tlg"),
    company.unless(["rescorer", "ngram", "spelling", "graph", "boundary"], "like"),
    company.needs(["spelling", "graph", "boundary"], "table", "words", "ngram"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, words and language model."""
    parser.add_argument("model", help="a model folder, or a known name")
    parser.add_argument("out", help="the folder to write; may be that of the model")
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--table", metavar="FILE", help="words with their units")
    given.add_argument("--words", metavar="FILE", help="words for the tokenizer to spell")
    given.add_argument(
        "--tlg",
        nargs=2,
        metavar=("FST", "WORDS"),
        help="instead: a graph and its words.txt (WeNet)",
    )
    given.add_argument("--like", metavar="MODEL", help="all of a model with the same units")
    parser.add_argument("--ngram", metavar="FILE", help="language model of words: .ngram or ARPA")
    parser.add_argument(
        "--spelling", metavar="FILE", help="model of graphones (.ngram), to spell unknown words"
    )
    parser.add_argument(
        "--rescorer", metavar="M", help="neural language model to rank with, a folder or a name"
    )
    parser.add_argument(
        "--graph", action="store_true", help="compile a TLG graph too (method=graph)"
    )
    parser.add_argument(
        "--boundary", metavar="UNIT", help="unit between words; '' for none (default: a space)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="a decoding option of the new model, such as lm_weight; may be repeated",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the folder and say what it holds."""
    from pathlib import Path

    from mynah.model_folder import find_model, read_model_folder
    from mynah.runtime.lexicon import GRAPH, LEXICON, NGRAM, SPELLING
    from mynah.runtime.lexicon_folder import add_graph, add_lexicon, add_words_of

    company.refuse(args, RULES)
    if args.like:
        source, other = (read_model_folder(find_model(name)) for name in (args.model, args.like))
        add_words_of(source, args.out, other, settings=args.set)
        print(f"{args.out}: with the words of {other.info.name}")
        return 0
    if args.rescorer and not (args.table or args.words or args.ngram or args.tlg):
        _add_rescorer(args, args.model)
        return 0
    if args.tlg:
        source = read_model_folder(find_model(args.model))
        add_graph(source, args.out, *args.tlg, settings=args.set)
        print(f"{args.out}: with the graph {args.tlg[0]}")
        return 0
    added = add_lexicon(
        read_model_folder(find_model(args.model)),
        args.out,
        table=args.table,
        words=args.words,
        ngram=args.ngram,
        spelling=args.spelling,
        graph=args.graph,
        boundary=args.boundary,
        settings=args.set,
    )
    print(f"{args.out}: {added.words} words in {added.spellings} spellings")
    if args.ngram and added.unknown_words:
        print(f"  {added.unknown_words} of them are unknown to the language model")
    if added.arcs:
        print(f"  a graph of {added.arcs} arcs")
    for name in (LEXICON, NGRAM, SPELLING, GRAPH):
        path = Path(args.out) / name
        if path.is_file():
            print(f"  {name:<16} {path.stat().st_size / 1e6:.3g} MB")
    if args.rescorer:
        _add_rescorer(args, args.out)
    return 0


def _add_rescorer(args: argparse.Namespace, model: str) -> None:
    from mynah.model_folder import find_model, read_model_folder
    from mynah.runtime.lexicon import RESCORER
    from mynah.runtime.lexicon_folder import add_rescorer

    source, rescorer = (read_model_folder(find_model(name)) for name in (model, args.rescorer))
    size = add_rescorer(source, args.out, rescorer, settings=args.set)
    print(f"{args.out}: with {rescorer.info.name} to rank what is found")
    print(f"  {RESCORER:<16} {size / 1e6:.3g} MB")
