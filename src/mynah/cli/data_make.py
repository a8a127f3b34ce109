"""``mynah data make``, ``shard``, ``cmvn`` and ``tokenizer``: what writes files."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli.data_common import Refused, absolute, count, cuts_of, progress
from mynah.errors import ConfigError, InputError

if TYPE_CHECKING:
    from mynah.corpus import Cut

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_SUBTYPES = {"wav": "PCM_16", "flac": "PCM_16", "opus": None}


def make(args: argparse.Namespace) -> int:
    """A manifest from a folder of recordings, or from another manifest."""
    from mynah import audio
    from mynah.corpus import row_from_cut, write_jsonl, write_tsv
    from mynah.corpus.collect import with_durations

    out = Path(args.out)
    if out.suffix not in (".tsv", ".jsonl"):
        raise ConfigError(f"{out}: the name must end in .tsv or .jsonl")
    refused = Refused()
    cuts = with_durations(_sources(args, refused), audio.read, refused, jobs=args.jobs)
    extra = {k: getattr(args, k) for k in ("language", "split") if getattr(args, k)}
    seconds = 0.0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal seconds
        base = os.path.abspath(out.parent)
        for cut in progress(cuts, "reading"):
            row = {**row_from_cut(absolute(cut), base), **extra}
            if not _is_unicode(row):  # a name of a file may be any bytes
                refused(cut.id, "its name is not UTF-8, which a manifest is")
                continue
            seconds += cut.duration or 0.0
            yield row

    written = list(rows())
    if written:
        (write_tsv if out.suffix == ".tsv" else write_jsonl)(out, written)
    code = refused.code(len(written), args.source)
    left = f", {refused.count} left out" if refused.count else ""
    print(f"{out}: {len(written)} utterances, {seconds / 3600:.2f} h{left}")
    return code


def _is_unicode(row: dict[str, Any]) -> bool:
    try:
        "".join(value for value in row.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _sources(args: argparse.Namespace, refused: Refused) -> Iterable[Cut]:
    from mynah.cli.evaluate import parse_conditions
    from mynah.corpus import locate, matcher
    from mynah.corpus.collect import collect
    from mynah.corpus.manifest import detect

    place = locate(args.source, args.root)
    if os.path.isdir(place):
        try:
            detect(place)
        except InputError:  # no manifest inside: the recordings themselves
            matches = matcher(parse_conditions(args.where), parse_conditions(args.exclude))
            return (cut for cut in collect(place) if matches(cut))
    return cuts_of(args, [args.source], refused)


def shard(args: argparse.Namespace) -> int:
    """Tars with an index."""
    from mynah.corpus import write_shards

    if args.size < 1:
        raise ConfigError(f"--size {args.size}: must be at least 1")
    if args.rate and args.format == "keep":
        raise ConfigError("--rate needs --format wav, flac or opus")
    out = Path(args.out)
    if any(out.glob("*.tar")):
        raise InputError(f"{out}: has tars already; choose another folder")
    refused = Refused()
    cuts = cuts_of(args, [args.manifest], refused)

    def encode(cut: Cut) -> tuple[str, bytes]:
        return args.format, encoded(cut, args.format, args.rate)

    tars = write_shards(
        progress(cuts, "writing", count(args, [args.manifest])),
        out,
        size=args.size,
        encode=None if args.format == "keep" else encode,
        on_error=refused,
        jobs=args.jobs,
    )
    code = refused.code(len(tars), args.manifest)
    print(f"{out}: {sum(tars.values())} utterances in {len(tars)} tars, each with its index")
    return code


def encoded(cut: Cut, kind: str, rate: int | None) -> bytes:
    """The samples of a cut as a file of the format ``kind``, mono.

    Raises:
        InputError: it cannot be decoded.
    """
    from mynah import audio
    from mynah.corpus import load
    from mynah.corpus.samples import native_rate

    rate = rate or native_rate(cut)
    if kind == "opus" and rate not in _OPUS_RATES:
        rate = 48000
    samples = load(cut, audio.read, rate=rate)
    target = io.BytesIO()
    audio.write(target, samples, rate, format=kind, subtype=_SUBTYPES[kind])
    return target.getvalue()


def cmvn(args: argparse.Namespace) -> int:
    """Mean and inverse standard deviation of the features."""
    from mynah import audio
    from mynah.config import as_dict
    from mynah.corpus import load
    from mynah.corpus.parallel import ordered_map
    from mynah.corpus.statistics import compute_cmvn, write_cmvn

    if Path(args.out).suffix not in (".json", ".npz"):
        raise ConfigError(f"{args.out}: the name must end in .json or .npz")
    frontend = audio.make_frontend(_frontend(args.frontend))
    refused, used = Refused(), 0
    cuts = _spread(list(cuts_of(args, args.manifests, refused)), args.limit)

    def feats(cut: Cut) -> Any:
        try:
            return frontend(load(cut, audio.read, rate=frontend.rate))
        except InputError as error:
            return cut, str(error)

    def good() -> Iterator[Any]:
        nonlocal used
        for found in progress(ordered_map(feats, cuts, args.jobs), "features", len(cuts)):
            if isinstance(found, tuple):
                refused(found[0].id, found[1])
            else:
                used += 1
                yield found

    found = compute_cmvn(good(), as_dict(frontend.config))
    write_cmvn(args.out, found)
    hours = found.frames * frontend.frame_shift / 3600
    print(f"{args.out}: {used} utterances, {found.frames} frames, {hours:.2f} h")
    return refused.code(used, args.manifests[0])


def _frontend(name: str) -> dict[str, Any]:
    from mynah.config import read_toml

    if not name.endswith(".toml"):
        return {"kind": name}
    return dict(read_toml(name).get("frontend") or {"kind": "fbank"})


def _spread(cuts: list[Cut], limit: int) -> list[Cut]:
    """``limit`` cuts at equal distances."""
    if not 0 < limit < len(cuts):
        return cuts
    return [cuts[i * len(cuts) // limit] for i in range(limit)]


def tokenizer(args: argparse.Namespace) -> int:
    """Train BPE, or list the characters, from texts and manifests."""
    from mynah.config import dumps_toml
    from mynah.text import char_tokenizer, train_bpe
    from mynah.whole import whole_text

    if not args.manifests and not args.text:
        raise ConfigError("name a manifest, or texts with --text")
    refused = Refused()
    texts = _texts(args, refused)
    if args.kind == "bpe":
        made = train_bpe(texts, args.size, args.model_type, language=args.language, case=args.case)
    else:
        made = char_tokenizer(
            texts, language=args.language, case=args.case, min_count=args.min_count
        )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    made.save(out)
    with whole_text(out / "tokenizer.toml") as stream:
        stream.write(dumps_toml(made.to_dict()))
    print(f"{out}: {made.vocab_size} units")
    return 1 if refused.count else 0


def _texts(args: argparse.Namespace, refused: Refused) -> Iterator[str]:
    for path in args.text:
        try:
            with Path(path).open(encoding="utf-8") as stream:
                yield from (line.strip() for line in stream if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read as text ({error})") from None
    for cut in cuts_of(args, args.manifests, refused):
        if cut.text:
            yield cut.text
