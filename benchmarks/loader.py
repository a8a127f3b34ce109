"""The loader on one core: ours (tars with an index) beside lhotse (Shar).

    python benchmarks/loader.py [--manifest SET] [--utterances 1500] [--rounds 5]

Both read the same FLAC from tars (1000 utterances each), decode, compute 80 bins of fbank on one
thread in one process, and give padded batches of at most 120 s of similar lengths in random order
(lhotse: DynamicBucketingSampler). Without ``--manifest`` the recordings are noise shaped like
speech. Counted: seconds of audio a second from the second batch to the end of an epoch, once in
the process itself in CPU time (which other work on the machine hardly changes) and once from one
reading process in real time; rounds taking turns, medians. Also shown: our time to the first batch
when an epoch is entered at its start and near its end, which should be the same; and the time from
nothing to the first batch of a resumed run (without reading it) early and late in an epoch.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy, which reads them when it is imported

import argparse
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mynah import audio
from mynah.config import build
from mynah.corpus import load, read_manifest, write_shards, write_tsv
from mynah.data.loader import DataConfig, Loader

RATE = 16_000
SECONDS = 120.0  # of a batch
MANY = 50_000  # utterances of the manifest on which places are restored


def noise_corpus(folder: Path, count: int) -> Path:
    """``count`` recordings of 1 to 15 s."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(count):
        seconds = float(np.clip(rng.gamma(4, 1.2), 1, 15))
        noise = np.convolve(rng.standard_normal(int(seconds * RATE)), np.ones(8) / 8, mode="same")
        rhythm = 0.6 + 0.4 * np.sin(8 * np.pi * np.arange(len(noise)) / RATE)
        audio.write(folder / f"{number}.flac", (0.1 * noise * rhythm).astype(np.float32), RATE)
        rows.append({"id": str(number), "path": f"{number}.flac", "text": "noise",
                     "duration": len(noise) / RATE})  # fmt: skip
    write_tsv(folder / "manifest.tsv", rows)
    return folder


def prepare(manifest: str, count: int, folder: Path) -> int:
    """Write ``folder/tar`` (ours) and ``folder/shar`` (lhotse's) with the same FLAC."""
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.shar import SharWriter

    from mynah.cli.data_make import encoded

    cuts = list(itertools.islice(read_manifest(manifest), count))
    write_shards(cuts, folder / "tar", encode=lambda c: ("flac", encoded(c, "flac", RATE)))
    fields = {"recording": "flac"}
    (folder / "shar").mkdir()
    with SharWriter(str(folder / "shar"), fields=fields, shard_size=1000) as writer:
        for cut in cuts:
            path = folder / f"{cut.id}.flac"
            audio.write(path, load(cut, audio.read, rate=RATE), RATE)
            recording = Recording.from_file(path, recording_id=cut.id)
            words = SupervisionSegment(cut.id, cut.id, 0.0, recording.duration, text=cut.text)
            writer.write(MonoCut(cut.id, 0.0, recording.duration, 0, [words], recording=recording))
            path.unlink()
    return len(cuts)


class Ours:
    """Our loader, with one process."""

    def __init__(self, folder: Path) -> None:
        values = {"train": [{"manifest": str(folder / "tar")}], "speed": [],
                  "max_frames": int(SECONDS * 100), "max_items": 1000}  # fmt: skip
        frontend = audio.make_frontend({"kind": "fbank"})
        config = build(DataConfig, values)
        self.loaders = [
            Loader(config, "train", None, frontend, seed=1, workers=workers) for workers in (0, 1)
        ]
        self.rounds = self.loaders[0].num_rounds(0)

    def epoch(self, epoch: int, workers: int, start: int = 0) -> Iterator[float]:
        """Seconds of speech in each batch."""
        for batch in self.loaders[workers].epoch(epoch, start):
            assert batch is not None
            yield float(batch.feat_lens.sum()) / 100


class LhotseSet(torch.utils.data.Dataset[Any]):
    """What a recipe of lhotse does with a batch of cuts."""

    def __init__(self) -> None:
        from lhotse import Fbank
        from lhotse.dataset.input_strategies import OnTheFlyFeatures

        self.extract = OnTheFlyFeatures(Fbank())

    def __getitem__(self, cuts: Any) -> dict[str, Any]:
        feats, lens = self.extract(cuts)
        return {"feats": feats, "lens": lens, "text": [c.supervisions[0].text for c in cuts]}


class Lhotse:
    """lhotse, with one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def epoch(self, epoch: int, workers: int) -> Iterator[float]:
        """Seconds of speech in each batch."""
        from lhotse import CutSet
        from lhotse.dataset import DynamicBucketingSampler, IterableDatasetWrapper

        cuts = CutSet.from_shar(in_dir=self.folder / "shar", shuffle_shards=True, seed=epoch)
        sampler = DynamicBucketingSampler(
            cuts, max_duration=SECONDS, shuffle=True, num_buckets=20, seed=epoch
        )
        sampler.set_epoch(epoch)
        batches = torch.utils.data.DataLoader(
            IterableDatasetWrapper(LhotseSet(), sampler),
            batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None,
        )  # fmt: skip
        for batch in batches:
            yield float(batch["lens"].sum()) / 100


def speed(epoch: Iterator[float], clock: Callable[[], float]) -> float:
    """Seconds of speech a second after the first batch."""
    next(epoch)
    start = clock()
    seconds = sum(epoch)
    return seconds / (clock() - start)


def until_first(loader: Ours, epoch: int, start: int) -> float:
    """Seconds until the first batch is there."""
    begin = time.perf_counter()
    next(loader.epoch(epoch, 1, start))
    return time.perf_counter() - begin


def restore_ours(folder: Path, late: float) -> float:
    """Seconds from nothing to the first request at ``late`` (0..1) of an epoch."""
    values = {"train": [{"manifest": str(folder / "many.tsv")}], "speed": []}
    begin = time.perf_counter()
    frontend = audio.make_frontend({"kind": "fbank"})
    loader = Loader(build(DataConfig, values), "train", None, frontend, seed=1)
    next(loader.requests(1, int(late * loader.num_rounds(1))))
    return time.perf_counter() - begin


def restore_lhotse(folder: Path, late: float) -> float:
    """The same from the state that lhotse's sampler saved there."""
    from lhotse import CutSet
    from lhotse.dataset import DynamicBucketingSampler

    def sampler() -> Any:
        cuts = CutSet.from_jsonl_lazy(folder / "many.jsonl")
        return DynamicBucketingSampler(cuts, max_duration=SECONDS, shuffle=True, num_buckets=20)

    first = sampler()
    seen = 0
    for batch in first:
        seen += len(batch)
        if seen >= late * MANY:
            break
    state = first.state_dict()
    begin = time.perf_counter()
    second = sampler()
    second.load_state_dict(state)
    next(iter(second))
    return time.perf_counter() - begin


def many(folder: Path) -> None:
    """Manifests of utterances that are never decoded."""
    from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

    lengths = np.clip(np.random.default_rng(1).gamma(4, 1.2, MANY), 1, 15).round(2).tolist()
    write_tsv(folder / "many.tsv", ({"id": str(n), "path": f"{n}.flac", "duration": d, "text": "x"}
                                    for n, d in enumerate(lengths)))  # fmt: skip
    with CutSet.open_writer(folder / "many.jsonl", overwrite=True) as writer:
        for n, d in enumerate(lengths):
            source = AudioSource("file", [0], f"{n}.flac")
            recording = Recording(str(n), [source], RATE, int(d * RATE), d)
            words = SupervisionSegment(str(n), str(n), 0.0, d, text="x")
            writer.write(MonoCut(str(n), 0.0, d, 0, [words], recording=recording))


def report(name: str, unit: str, ours: float, peer: float, ratio: float) -> None:
    """A line for people and one of JSON."""
    print(f"{name}: ours {ours:,.4g} {unit}, lhotse {peer:,.4g} {unit}, ratio {ratio:.2f}")
    print(json.dumps({"name": name, "ours": ours, "peer": peer, "ratio": ratio}))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--manifest", help="a set that mynah data reads")
    parser.add_argument("--utterances", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "noise").mkdir()
        manifest = args.manifest or str(noise_corpus(folder / "noise", args.utterances))
        count = prepare(manifest, args.utterances, folder)
        ours, peer = Ours(folder), Lhotse(folder)
        print(f"{count} utterances")
        for workers, clock, name in (
            (0, time.process_time, "loader, audio seconds a CPU second, in the process"),
            (1, time.perf_counter, "loader, audio seconds a second, one reading process"),
        ):
            pairs = [
                (speed(ours.epoch(e, workers), clock), speed(peer.epoch(e, workers), clock))
                for e in range(args.rounds)
            ]
            mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
            report(name, "s/s", mine, theirs, mine / theirs)
        last = ours.rounds - 2
        waits = [until_first(ours, e, last) for e in range(args.rounds)]
        starts = [until_first(ours, e, 0) for e in range(args.rounds)]
        late_ms, start_ms = (1000 * statistics.median(w) for w in (waits, starts))
        print(
            f"to the first batch: at the start {start_ms:.0f} ms, at round {last} {late_ms:.0f} ms"
        )
        ours.loaders[1].close()
        many(folder)
        for late in (0.1, 0.9):
            mine, theirs = restore_ours(folder, late), restore_lhotse(folder, late)
            name = f"loader, seconds to resume at {late:.0%} of {MANY} utterances"
            report(name, "s", mine, theirs, theirs / mine)


if __name__ == "__main__":
    main()
