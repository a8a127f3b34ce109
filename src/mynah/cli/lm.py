"""Train, mix, prune, convert and measure n-gram language models.

    mynah lm train books.txt.xz --out english.ngram --language en --vocab 100000 --prune 1e-8
    mynah lm mix english.ngram own.ngram --tune own-held-out.txt --language en --out mixed.ngram
    mynah lm ppl mixed.ngram held-out.txt --language en
    mynah lm ppl mixed.ngram held-out.txt --language en --neural my-lm

Models that are to be small are better pruned by train, which knows how often n-grams were there,
than after they were mixed.

Texts have a sentence a line: plain, .gz, .xz or .zst files, or - for standard input. A model is
written in our binary format when its name ends in .ngram, else as ARPA, gzipped after .gz; both
are read by what they hold, whatever they are called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, cast

from mynah.cli import common, company
from mynah.cli.common import positive
from mynah.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mynah.decoding.ngram import NgramModel, Trie

_UNITS = {"K": 10, "M": 20, "G": 30}
BITS = 8


def _packed(args: argparse.Namespace) -> bool:
    """Whether the model that is written has our binary format."""
    target: str = args.target if args.action == "convert" else args.out
    return target.endswith(".ngram")


def _of_texts(option: str) -> company.Rule:
    """Models alone have no texts that ``option`` could act on."""
    return company.Rule(
        (option,),
        lambda args: args.action != "mix" or args.tune is not None or not getattr(args, option),
        "needs --tune",
    )


RULES = (
    company.needs(["share"], "neural"),
    company.unless(["tune"], "shares"),
    _of_texts("language"),
    _of_texts("characters"),
    company.Rule(("bits", "mapped"), _packed, "ARPA has none; the name must end in .ngram"),
    company.Rule(
        ("min_count",),
        lambda args: args.vocab is None or args.vocab.isdecimal(),
        "not with a file of --vocab, which says the words",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of ``mynah lm`` and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    train = actions.add_parser("train", help="modified Kneser-Ney from texts of any size")
    _texts(train)
    _out(train)
    train.add_argument("--order", type=positive, default=3, metavar="N", help="longest n-grams (3)")
    train.add_argument("--vocab", metavar="N|FILE", help="keep the N most frequent words, or those "
                       "that are the first on a line of FILE (all)")  # fmt: skip
    train.add_argument("--min-count", type=positive, metavar="N",
                       help="keep words that are there N times (1)")  # fmt: skip
    train.add_argument("--cutoff", type=int, nargs="+", default=[0], metavar="N",
                       help="n-grams of order 1, 2 ... that occur so often or less are left out; "
                       "begins with 0 (0)")  # fmt: skip
    train.add_argument("--prune", type=float, default=0.0, metavar="T",
                       help="entropy pruning, usually 1e-9 to 1e-6 (0: none)")  # fmt: skip
    train.add_argument("--memory", type=_bytes, default=1 << 30, metavar="SIZE",
                       help="memory for it, as 500M; the rest goes to files (1G)")  # fmt: skip
    train.add_argument("--temp", metavar="DIR", help="folder of those files (the system's)")
    mix = actions.add_parser("mix", help="the mean of several models as one, as a language of "
                             "one's own beside a general one")  # fmt: skip
    mix.add_argument("models", nargs="+", metavar="MODEL", help="two or more")
    mix.add_argument("--shares", type=float, nargs="+", metavar="P",
                     help="of each model (equal ones)")  # fmt: skip
    mix.add_argument("--tune", nargs="+", metavar="TEXT", help="choose the shares "
                     "that make these texts, which no model knows, most probable")  # fmt: skip
    _normalised(mix)
    _out(mix)
    prune = actions.add_parser("prune", help="leave out n-grams that hardly change the model")
    prune.add_argument("model")
    _out(prune)
    prune.add_argument("--threshold", type=float, required=True, metavar="T",
                       help="of perplexity growing, usually 1e-9 to 1e-6")  # fmt: skip
    ppl = actions.add_parser("ppl", help="perplexity and unknown words of texts")
    ppl.add_argument("model")
    _texts(ppl)
    ppl.add_argument("--neural", metavar="M",
                     help="a neural model too (family lm), alone and with this one")  # fmt: skip
    ppl.add_argument("--share", type=float, metavar="P",
                     help="of the neural model where both are mixed (0.5)")  # fmt: skip
    ppl.add_argument("--json", action="store_true", help="the figures as one JSON line")
    convert = actions.add_parser("convert", help="ARPA to binary and back")
    convert.add_argument("model")
    convert.add_argument("target")
    _binary(convert)


def _texts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="a sentence a line; - is stdin")
    _normalised(parser)


def _normalised(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", default="", metavar="CODE",
                        help="normalise as for scoring in this language (as it is)")  # fmt: skip
    parser.add_argument("--characters", action="store_true",
                        help="each hanzi and kana is a word of its own")  # fmt: skip


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FILE", help=".ngram, .arpa or .arpa.gz")
    _binary(parser)


def _binary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bits", type=int, metavar="N",
                        help="of a value in .ngram: 2 to 8, 32 for no loss (8)")  # fmt: skip
    parser.add_argument("--mapped", action="store_true",
                        help="a larger .ngram that stays on disk when it is used")  # fmt: skip


def _bytes(text: str) -> int:
    """A size such as 500M, for argparse."""
    unit = _UNITS.get(text[-1:].upper())
    try:
        number = float(text[:-1] if unit else text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e15:
        raise argparse.ArgumentTypeError(f"{text!r} is no size")
    return int(number * (1 << (unit or 0)))


def run(args: argparse.Namespace) -> int:
    """Do the action."""
    company.refuse(args, RULES)
    actions = {"train": _train, "mix": _mix, "prune": _prune, "ppl": _ppl, "convert": _convert}
    code: int = actions[args.action](args)
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train(args: argparse.Namespace) -> int:
    import time

    from mynah.decoding.ngram.binary import check_bits
    from mynah.decoding.ngram.train import TrainOptions, scratch_for, train

    limit, words = None, None
    if args.vocab is not None and args.vocab.isdecimal():
        limit = int(args.vocab)
    elif args.vocab is not None:
        words = _first_words(args.vocab)
    common.keep("--out", args.out, args.texts)
    check_bits(_bits(args))  # not after hours
    options = TrainOptions(
        order=args.order,
        cutoffs=tuple(args.cutoff),
        prune=args.prune,
        words=words,
        limit=limit,
        min_count=args.min_count or 1,
        memory=args.memory,
        folder=args.temp,
    )
    start = time.perf_counter()
    with scratch_for(options) as scratch:
        done = train(sentences(args), options, scratch, say=_say)
        _save(done.trie, args.out, args)
    took = time.perf_counter() - start
    _say(f"{took:.1f} s, {done.tokens / took:.3g} tokens/s, {scratch.spilled >> 20} MB in files")
    return 0


def _first_words(path: str) -> list[str]:
    """The first word of each line of a file: a list of words, or a pronunciation dictionary."""
    with open(path, encoding="utf-8") as stream:
        try:
            words = [line.split()[0] for line in stream if not line.isspace()]
        except UnicodeDecodeError:
            raise InputError(f"{path}: not UTF-8") from None
    if not words:
        raise InputError(f"{path}: no words")
    return words


def _mix(args: argparse.Namespace) -> int:
    from mynah.decoding.ngram import NgramModel, load_trie
    from mynah.decoding.ngram.binary import check_bits
    from mynah.decoding.ngram.mix import fitting_shares, mix

    if len(args.models) < 2:
        raise ConfigError(f"{args.models[0]}: one model; two or more can be mixed")
    common.keep("--out", args.out, args.tune or [])
    check_bits(_bits(args))
    tries = [load_trie(path) for path in args.models]
    shares = args.shares or [1 / len(tries)] * len(tries)
    if args.tune:
        args.texts = args.tune
        lines = [line.split() for line in sentences(args)]
        scores = [_scores(NgramModel(trie), lines) for trie in tries]
        if not len(scores[0]):
            raise InputError(f"{' '.join(args.tune)}: no text")
        shares = fitting_shares(scores).tolist()
    mixed = mix(tries, shares)
    for path, share in zip(args.models, shares, strict=True):
        _say(f"{share / sum(shares):.3f} of {path}")
    _save(mixed, args.out, args)
    return 0


def _scores(model: NgramModel, lines: Iterable[list[str]]) -> npt.NDArray[np.float64]:
    """Log-probabilities of the words of texts, and of the ends; of a word that the model does not
    know nothing is left."""
    import numpy as np

    rows = [[model.vocab.get(word, -1) for word in words] + [model.eos] for words in lines if words]
    ids = np.array([i for row in rows for i in row], np.int64)
    scores = model.score_ids(np.where(ids < 0, model.unk, ids), [len(row) for row in rows])
    return np.where(ids < 0, -np.inf, scores)


def _prune(args: argparse.Namespace) -> int:
    from mynah.decoding.ngram import load_trie
    from mynah.decoding.ngram.prune import prune

    if not 0 <= args.threshold < float("inf"):
        raise ConfigError(f"--threshold: must be 0 or above, got {args.threshold}")
    trie = load_trie(args.model)
    _say(f"{args.model}: {_counts(trie)}")
    _save(prune(trie, args.threshold), args.out, args)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from mynah.decoding.ngram import load_trie

    _save(load_trie(args.model), args.target, args)
    return 0


def _save(trie: Trie, path: str, args: argparse.Namespace) -> None:
    from pathlib import Path

    from mynah.decoding.ngram import save_ngram

    save_ngram(trie, path, bits=_bits(args), compact=not args.mapped)
    size = Path(path).stat().st_size
    each = size / sum(trie.counts)
    print(f"{path}: {_counts(trie)}; {size / 1e6:.2f} MB, {each:.2f} bytes an n-gram")


def _bits(args: argparse.Namespace) -> int:
    return BITS if args.bits is None else int(args.bits)


def _counts(trie: Trie) -> str:
    return ", ".join(f"{count} {n}-grams" for n, count in enumerate(trie.counts, start=1))


def _ppl(args: argparse.Namespace) -> int:
    import json

    from mynah.decoding.ngram import load_ngram

    model = load_ngram(args.model)
    if args.neural is None:
        figures = _measure(model, sentences(args))
    else:
        figures = _compare(model, args)
    if not figures["tokens"]:
        raise InputError(f"{' '.join(args.texts)}: no text")
    if args.json:
        print(json.dumps(figures))
        return 0
    print("\n".join(f"{name.replace('_', ' '):27} {value:.7g}" for name, value in figures.items()))
    return 0


def _measure(model: NgramModel, lines: Iterable[str]) -> dict[str, float]:
    """Perplexity of a text, sentence ends counted, with and without unknown words."""
    import itertools

    import numpy as np

    tokens = unknown = count = 0
    total = total_known = 0.0
    lines = iter(lines)
    while batch := list(itertools.islice(lines, 10_000)):
        words = [line.split() for line in batch]
        rows = [[model.vocab.get(w, model.unk) for w in some] for some in words if some]
        lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
        ids = np.array([i for row in rows for i in (*row, model.eos)], dtype=np.int64)
        scores = model.score_ids(ids, lengths)
        known = ids != model.unk
        tokens, unknown = tokens + len(ids), unknown + int((~known).sum())
        total, total_known = total + float(scores.sum()), total_known + float(scores[known].sum())
        count += len(rows)
    known_tokens = max(tokens - unknown, 1)
    return {
        "sentences": count,
        "tokens": tokens,
        "unknown_words": unknown,
        "unknown_percent": 100 * unknown / max(tokens - count, 1),
        "perplexity": float(np.exp(min(-total / max(tokens, 1), 700.0))),
        "perplexity_of_known_words": float(np.exp(min(-total_known / known_tokens, 700.0))),
        "log10_probability": total / np.log(10),
    }


def _compare(model: NgramModel, args: argparse.Namespace) -> dict[str, float]:
    """Perplexities of the words that the n-gram model knows, and of sentence ends: by it, by the
    neural model, and by the mean of the probabilities that they give."""
    import itertools

    import numpy as np

    from mynah.runtime.rescorer import load_rescorer

    share = 0.5 if args.share is None else args.share
    if not 0 < share < 1:
        raise ConfigError(f"--share: must be between 0 and 1, got {share}")
    rescorer = load_rescorer(args.neural)
    count = tokens = known = 0
    totals = np.zeros(3)
    lines = (words for line in sentences(args) if (words := line.split()))
    while batch := list(itertools.islice(lines, 500)):
        rows = [[model.vocab.get(word, model.unk) for word in words] for words in batch]
        ids = np.array([i for row in rows for i in (*row, model.eos)], dtype=np.int64)
        by_ngram = model.score_ids(ids, [len(row) + 1 for row in rows])
        by_neural = np.concatenate(rescorer.word_scores(batch))
        both = np.logaddexp(np.log(share) + by_neural, np.log(1 - share) + by_ngram)
        there = ids != model.unk
        totals += [float(scores[there].sum()) for scores in (by_ngram, by_neural, both)]
        count, tokens, known = count + len(batch), tokens + len(ids), known + int(there.sum())
    first, second, third = np.exp(np.minimum(-totals / max(known, 1), 700.0)).tolist()
    return {
        "sentences": count,
        "tokens": tokens,
        "unknown_words": tokens - known,
        "perplexity_of_known_words": first,
        "by_the_neural_model": second,
        "by_both": third,
    }


def sentences(args: argparse.Namespace) -> Iterator[str]:
    """The lines of the texts, normalised and cut into words as the options say.

    Raises:
        InputError: a text is not UTF-8, or damaged.
        OSError: it cannot be read.
    """
    from mynah.text.characters import ALONE
    from mynah.text.scoring import normalize_for_scoring
    from mynah.text.titles import as_said

    for path in args.texts:
        for line in read_lines(path):
            if args.language:
                line = as_said(normalize_for_scoring(line, args.language), args.language)
            yield ALONE.sub(r" \g<0> ", line) if args.characters else line


def read_lines(path: str) -> Iterator[str]:
    """The lines of a text file, unpacked by its ending; ``-`` is standard input.

    Raises:
        InputError: it is not UTF-8, or damaged, or nothing here unpacks it.
        OSError: it cannot be read.
    """
    import io
    import lzma
    import zlib

    text = io.TextIOWrapper(sys.stdin.buffer if path == "-" else _open(path), "utf-8-sig")
    try:
        yield from text
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from None
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise InputError(f"{path}: damaged file ({error})") from None
    except OSError as error:
        if error.errno is None:  # of gzip and bz2, not of the system
            raise InputError(f"{path}: damaged file ({error})") from None
        raise
    finally:
        if path == "-":
            text.detach()  # standard input stays open
        else:
            text.close()


def _open(path: str) -> IO[bytes]:
    import bz2
    import gzip
    import lzma

    kind = path.rpartition(".")[2]
    if kind == "gz":
        return cast(IO[bytes], gzip.open(path))
    if kind == "xz":
        return lzma.open(path)
    if kind == "bz2":
        return bz2.open(path)
    return _open_zstd(path) if kind == "zst" else open(path, "rb")


def _open_zstd(path: str) -> IO[bytes]:
    import importlib

    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise InputError(
            f"{path}: zstandard is not installed; add it, or give - and the output of zstd -dc"
        ) from None
    stream: IO[bytes] = zstandard.open(path, "rb")
    return stream
