"""Recordings without text to training data: what a model hears of them becomes their text.

Training on such labels (pseudo-labels, https://arxiv.org/abs/1909.09116) is worth it where
recordings of the wanted kind have no text. Utterances of which too little was heard are left out. A
run that was stopped goes on where it was, as long as the model and the options are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mynah.cli import common, company
from mynah.errors import ConfigError, MynahError

if TYPE_CHECKING:
    from mynah.corpus import Cut
    from mynah.runtime.recognizer import Recognizer
    from mynah.runtime.result import Transcript


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``mynah data label``."""
    parser.add_argument("manifest", metavar="MANIFEST")
    parser.add_argument("--out", required=True, metavar="FILE", help="manifest to write: .tsv")
    parser.add_argument("--root", help="folder of the sets (MYNAH_DATA)")
    parser.add_argument("--where", action="append", default=[], metavar="CONDITION",
                        help="only those that meet it; may be repeated")  # fmt: skip
    parser.add_argument("--exclude", action="append", default=[], metavar="CONDITION",
                        help="not those that meet it; may be repeated")  # fmt: skip
    parser.add_argument(
        "--min-rate", type=common.within(0.0, 100.0), default=1.2, metavar="R",
        help="words (hanzi) a second (1.2)",
    )  # fmt: skip
    parser.add_argument(
        "--min-confidence", type=common.within(0.0, 1.0), default=0.0, metavar="P",
        help="mean over the words (0)",
    )  # fmt: skip
    common.add_model_arguments(parser)
    common.add_decoding_arguments(parser, live=False)
    common.add_script_argument(parser)


def run_label(args: argparse.Namespace) -> int:
    """Write the manifest; 1 when some recordings could not be read, 2 when nothing is left."""
    from mynah.cli.data_common import Refused, absolute, count, cuts_of, progress
    from mynah.corpus import row_from_cut, write_tsv

    company.refuse(args, [common.HOTWORDS])
    out = Path(args.out)
    if out.suffix != ".tsv":
        raise ConfigError(f"{out}: the name must end in .tsv")
    common.keep("--out", out, [args.manifest])
    recognizer = common.choice(args).load()
    refused = Refused()
    total = count(args, [args.manifest])
    rows: list[dict[str, Any]] = []
    heard, seconds = 0, 0.0
    base = os.path.abspath(out.parent)
    with _Kept(out, _facts(args, recognizer)) as kept:
        for cut in progress(cuts_of(args, [args.manifest], refused), "hearing", total):
            try:
                label = kept.get(cut.id) or kept.put(cut.id, _label(args, recognizer, cut))
            except MynahError as error:
                refused(cut.id, str(error))
                continue
            heard += 1
            enough = label["rate"] >= args.min_rate
            if label["text"] and enough and label["confidence"] >= args.min_confidence:
                rows.append({**row_from_cut(absolute(cut), base), **_columns(label)})
                seconds += label["seconds"]
    code = refused.code(len(rows), args.manifest)
    write_tsv(out, rows)
    kept.remove()
    print(f"{out}: {len(rows)} of {heard} utterances, {seconds / 3600:.2f} h")
    return code


def _label(args: argparse.Namespace, recognizer: Recognizer, cut: Cut) -> dict[str, Any]:
    from mynah.audio import read
    from mynah.corpus import load

    samples = load(cut, read, rate=recognizer.sample_rate)
    request = common.request(args, recognizer, words=True)
    found = recognizer.transcribe(samples, request)
    seconds = len(samples) / recognizer.sample_rate
    return {
        "text": found.text,
        "confidence": round(_confidence(found), 4),
        "rate": round(len(found.words) / max(seconds, 1e-3), 4),
        "seconds": round(seconds, 3),
    }


def _confidence(transcript: Transcript) -> float:
    known = [word.confidence for word in transcript.words if word.confidence is not None]
    return sum(known) / len(known) if known else 0.0


def _columns(label: dict[str, Any]) -> dict[str, Any]:
    return {"text": label["text"], "confidence": label["confidence"]}


def _facts(args: argparse.Namespace, recognizer: Recognizer) -> str:
    """What the labels depend on, as one line."""
    from mynah.model_folder import read_model_folder

    files = sorted(read_model_folder(common.choice(args).find()).files.items())
    request = common.request(args, recognizer, words=True)
    return json.dumps([files, recognizer.engine_name, request.key(), request.script])


class _Kept:
    """Labels made so far, in a hidden file beside the manifest: a line of facts, then one each."""

    def __init__(self, out: Path, facts: str) -> None:
        self.path = out.with_name(f".{out.name}.part.jsonl")
        self.labels = dict(self._read(facts))
        fresh = not self.labels
        try:
            self.file = self.path.open("w" if fresh else "a", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None
        # a line that was cut off ends here
        self.file.write(facts + "\n" if fresh else "\n")
        if fresh:
            return
        if sys.stderr.isatty():
            print(f"{out}: goes on after {len(self.labels)} utterances", file=sys.stderr)

    def _read(self, facts: str) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        if not lines or lines[0] != facts:
            return
        for line in lines[1:]:
            with contextlib.suppress(ValueError):  # the last line may be cut off
                entry = json.loads(line)
                yield entry.pop("id"), entry

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def get(self, name: str) -> dict[str, Any] | None:
        """The label made before."""
        return self.labels.get(name)

    def put(self, name: str, label: dict[str, Any]) -> dict[str, Any]:
        """Keep a label and give it back."""
        self.file.write(json.dumps({"id": name, **label}) + "\n")
        self.file.flush()
        return label

    def remove(self) -> None:
        """Forget everything; the manifest is written."""
        self.path.unlink(missing_ok=True)
