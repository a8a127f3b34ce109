"""Speech corpora: manifests and shards of every kind, their checks and their statistics."""

from __future__ import annotations

from mynah.corpus.cut import Cut, Recording, Supervision, cut_from_row, row_from_cut
from mynah.corpus.lines import LineManifest
from mynah.corpus.manifest import StreamManifest, locate, open_manifest, read_manifest
from mynah.corpus.samples import load
from mynah.corpus.select import matcher
from mynah.corpus.shards import write_shards
from mynah.corpus.table import write_jsonl, write_tsv

__all__ = [
    "Cut",
    "LineManifest",
    "Recording",
    "StreamManifest",
    "Supervision",
    "cut_from_row",
    "load",
    "locate",
    "matcher",
    "open_manifest",
    "read_manifest",
    "row_from_cut",
    "write_jsonl",
    "write_shards",
    "write_tsv",
]
