"""The loader: everything once, the same whoever does the work, and nothing stops for bad data."""

from __future__ import annotations

import contextlib
import gzip
import json
import multiprocessing
import os
import signal
import tarfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mynah import audio
from mynah.config import build
from mynah.corpus import read_manifest, write_shards, write_tsv
from mynah.data import augment
from mynah.data.loader import Batch, DataConfig, Loader
from mynah.data.resident import Resident
from mynah.errors import ConfigError, InputError
from mynah.text import Tokenizer

COUNT = 23
IDS = [f"u{n:02}" for n in range(COUNT)]
Make = Callable[..., Loader]
few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
AUGMENTED = {
    "speed": [0.9, 1.0, 1.1],
    "spec_augment": {"time_width": 5, "frequency_width": 2},
    "spec_sub": {"width": 5},
    "spec_trim": {"width": 5},
}


def ids(batches: Iterable[Batch | None]) -> list[str]:
    return [name for b in batches if b is not None for name in b.ids]


def assert_equal(one: list[Batch | None], other: list[Batch | None]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        if a is None or b is None:
            continue
        assert a.ids == b.ids and a.texts == b.texts
        for name in ("feats", "feat_lens", "tokens", "token_lens"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@few
@given(world=st.integers(1, 4), epoch=st.integers(0, 3), max_frames=st.integers(150, 900))
def test_every_utterance_once_over_ranks_in_equal_rounds(
    make: Make, world: int, epoch: int, max_frames: int
) -> None:
    seen: list[str] = []
    for rank in range(world):
        loader = make({"max_frames": max_frames}, rank=rank, world=world)
        batches = list(loader.epoch(epoch))
        assert len(batches) == loader.num_rounds(epoch)
        assert all(b is not None for b in batches[:-1])
        assert all(b.feats.shape[0] * b.feats.shape[1] <= max_frames for b in batches if b)
        seen += ids(batches)
    assert sorted(seen) == IDS


@few
@given(start=st.integers(0, 14), rank=st.integers(0, 1))
def test_a_later_start_gives_the_tail(make: Make, start: int, rank: int) -> None:
    loader = make(AUGMENTED, rank=rank, world=2)
    whole = list(loader.epoch(2))
    fresh = make(AUGMENTED, rank=rank, world=2)
    assert_equal(list(fresh.epoch(2, start)), whole[start:])


def test_batches_hold_what_they_say(make: Make, corpus: Path, frontend: audio.Frontend,
                                    tokenizer: Tokenizer) -> None:  # fmt: skip
    cuts = {c.id: c for c in read_manifest(corpus)}
    for batch in make().epoch(0):
        assert batch is not None
        assert batch.feats.dtype == torch.float32
        for row, name in enumerate(batch.ids):
            samples = audio.read(cuts[name].recording.source).samples
            feats, length = batch.feats[row], int(batch.feat_lens[row])
            np.testing.assert_array_equal(feats[:length].numpy(), frontend(samples))
            assert not feats[length:].any()
            assert batch.texts[row] == cuts[name].text
            used = int(batch.token_lens[row])
            assert batch.tokens[row, :used].tolist() == tokenizer.encode(cuts[name].text)
            assert not batch.tokens[row, used:].any()


def test_epochs_differ_and_repeat(make: Make) -> None:
    loader = make(AUGMENTED)
    first, second, again = (list(loader.epoch(e)) for e in (0, 1, 0))
    assert_equal(first, again)
    assert ids(first) != ids(second)
    assert_equal(first, list(make(AUGMENTED).epoch(0)))
    assert ids(first) != ids(make(AUGMENTED, seed=8).epoch(0))


def test_augmentation_is_the_utterances_own(make: Make) -> None:
    """It depends neither on the batch, nor on the rank, nor on what else is in the set."""

    def feats(loader: Loader) -> dict[str, torch.Tensor]:
        return {
            name: b.feats[row, : b.feat_lens[row]]
            for b in loader.epoch(1) if b is not None
            for row, name in enumerate(b.ids)
        }  # fmt: skip

    whole = feats(make(AUGMENTED))
    alone = feats(make(AUGMENTED | {"max_frames": 200}))
    other = feats(make(AUGMENTED, rank=1, world=2))
    plain = feats(make(AUGMENTED, augment=False))
    for some in (alone, other):
        assert all(torch.equal(f, whole[name]) for name, f in some.items())
    assert sum(f.shape != whole[n].shape for n, f in plain.items()) > COUNT // 2


def test_views_are_beside_one_another_and_each_varied_in_its_own_way(make: Make) -> None:
    one, two = (list(make(AUGMENTED | {"views": n, "max_frames": 500}).epoch(1)) for n in (1, 2))
    first = {name: b.feats[row] for b in one if b for row, name in enumerate(b.ids)}
    seen = []
    for batch in two:
        assert batch is not None and batch.views == 2
        assert batch.feats.shape[0] * batch.feats.shape[1] <= 500
        assert batch.ids[::2] == batch.ids[1::2]
        assert torch.equal(batch.tokens[::2], batch.tokens[1::2])
        seen += batch.ids[::2]
        for row, name in enumerate(batch.ids):
            size = min(batch.feats.shape[1], len(first[name]))
            equal = torch.equal(batch.feats[row, :size], first[name][:size])
            assert equal == (row % 2 == 0)  # the first is what it is alone
    assert sorted(seen) == sorted(first)
    plain = [b for b in make({"views": 2}, augment=False).epoch(0) if b is not None]
    assert all(b.views == 1 and len(set(b.ids)) == len(b.ids) for b in plain)


def test_development_set_is_sorted_and_as_it_is(make: Make, corpus: Path) -> None:
    dev = [{"manifest": str(corpus), "where": {"split": "dev"}}]
    loader = make(AUGMENTED | {"dev": dev}, which="dev", augment=False)
    batches = list(loader.epoch(0))
    assert ids(batches) == ["u00", "u05", "u10", "u15", "u20"]
    assert_equal(batches, list(loader.epoch(5)))


def test_sources_repeat_and_are_limited(make: Make, corpus: Path) -> None:
    sources = [
        {"manifest": str(corpus), "where": {"split": "dev"}, "repeat": 3},
        {"manifest": str(corpus), "exclude": {"split": "dev"}, "limit": 4, "text": "lower"},
    ]
    batches = list(make(AUGMENTED | {"train": sources}).epoch(0))
    counts = Counter(ids(batches))
    assert counts == {"u00": 3, "u05": 3, "u10": 3, "u15": 3, "u20": 3,
                      "u01": 1, "u02": 1, "u03": 1, "u04": 1}  # fmt: skip
    texts = {n: t for b in batches if b for n, t in zip(b.ids, b.texts, strict=True)}
    assert texts["u02"] == "abc" and texts["u05"] == "AbC"
    copies = [b.feats[r, : b.feat_lens[r]] for b in batches if b
              for r, n in enumerate(b.ids) if n == "u20"]  # fmt: skip
    assert not all(c.shape == copies[0].shape and torch.equal(c, copies[0]) for c in copies)


def test_fraction_is_always_the_same(make: Make, corpus: Path) -> None:
    def kept(fraction: float) -> set[str]:
        source = {"manifest": str(corpus), "fraction": fraction}
        return set(ids(make({"train": [source]}).epoch(0)))

    assert kept(0.3) < kept(0.7) < set(IDS)
    assert kept(0.3) == kept(0.3)


@pytest.mark.parametrize(
    ("form", "expected"), [("lower", "abc"), ("upper", "ABC"), ("scoring", "abc"), ("none", "AbC")]
)
def test_text_forms(make: Make, form: str, expected: str) -> None:
    texts = {t for b in make({"text": form}).epoch(0) if b for t in b.texts}
    assert expected in texts and len(texts) == 3


@pytest.fixture
def broken(tmp_path: Path, corpus: Path) -> Path:
    """The corpus with one of every kind of trouble among it."""
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(8000)).astype(np.float32)
    rows: list[dict[str, Any]] = []

    def add(name: str, duration: Any, text: str = "abc", samples: Any = None) -> None:
        if samples is not None:
            soundfile.write(tmp_path / f"{name}.wav", samples, 8000, subtype="FLOAT")
        rows.append({"id": name, "path": f"{name}.wav", "duration": duration, "text": text})

    add("empty-text", 1.0, "", noise)
    add("missing", 1.0)
    (tmp_path / "no-audio.wav").write_text("this is no recording")
    add("no-audio", 1.0)
    add("nan", 1.0, "abc", np.where(np.arange(8000) == 77, np.nan, noise))
    add("short", 0.01, "a", noise[:80])
    add("long", 31.0, "a", noise)
    add("crowded", 1.0, "abcabcabcabcabcabcabcabcabc", noise)
    add("liar", 3.0, "abc", noise)
    add("longer", 0.2, "abc", noise)
    data = bytearray((corpus / "u01.flac").read_bytes())
    data[200:] = bytes(len(data) - 200)
    (tmp_path / "damaged.flac").write_bytes(data)
    rows.append({"id": "damaged", "path": "damaged.flac", "duration": 0.35, "text": "a"})
    rows += [{"id": n, "path": str(corpus / f"{n}.flac"), "duration": "", "text": "abc"}
             for n in IDS[10:14]]  # fmt: skip
    write_tsv(tmp_path / "manifest.tsv", rows)
    with (tmp_path / "manifest.tsv").open("a") as stream:
        stream.write("too\tmany\tcolumns\tin\tthis\tline\n")
    return tmp_path


REASONS = {
    "empty-text": "has no text",
    "missing": "no such file",
    "no-audio": "no-audio.wav",
    "nan": "not a number|not numbers|not finite|NaN",
    "short": "shorter than min_seconds",
    "long": "longer than max_seconds",
    "crowded": "27 tokens .* for 23 encoder frames",
    "liar": "decodes to 1.00 s, the manifest says 3.00 s",
    "longer": "decodes to 1.00 s, the manifest says 0.20 s",
    "damaged": "damaged.flac",
}


@pytest.mark.parametrize("workers", [0, 1])
def test_troubles_go_to_quarantine_and_the_rest_goes_on(
    make: Make, broken: Path, tmp_path: Path, workers: int
) -> None:
    file = tmp_path / "out" / "quarantine.jsonl"
    table = {"train": [{"manifest": str(broken)}], "subsampling": 4}
    loader = make(table, quarantine=file, workers=workers)
    for epoch in (0, 1):
        assert sorted(ids(loader.epoch(epoch))) == IDS[10:14]
    reasons = dict(loader.quarantine)
    line = next(n for n in reasons if n.endswith("manifest.tsv:16"))
    assert reasons.pop(line) == "has 6 columns, the header 5"
    assert set(reasons) == set(REASONS)
    for name, expected in REASONS.items():
        with pytest.raises(AssertionError, match=expected):
            raise AssertionError(reasons[name])
    written = [json.loads(text) for text in file.read_text("utf-8").splitlines()]
    assert [(w["id"], w["reason"]) for w in written] == loader.quarantine
    loader.close()


def test_the_quarantine_file_has_each_trouble_once(
    make: Make, broken: Path, tmp_path: Path
) -> None:
    file = tmp_path / "quarantine.jsonl"
    file.write_text('{"id": "mis', "utf-8")  # a run that was killed while it wrote
    found: set[tuple[str, str]] = set()
    for _ in range(2):  # the run, and the one that goes on with it
        for rank in range(2):
            loader = make(
                {"train": [{"manifest": str(broken)}], "subsampling": 4, "max_frames": 220},
                quarantine=file, rank=rank, world=2,
            )  # fmt: skip
            for epoch in range(3):
                with contextlib.suppress(InputError):  # a rank that meets nothing else
                    list(loader.epoch(epoch))
            found |= set(loader.quarantine)
    first, *lines = file.read_text("utf-8").splitlines()
    assert first == '{"id": "mis'
    written = [(e["id"], e["reason"]) for e in map(json.loads, lines)]
    assert len(written) == len(set(written)) and set(written) == found
    assert {"missing", "empty-text"} <= {name for name, _ in written}


@pytest.mark.parametrize("views", [1, 2])
def test_a_manifest_that_says_too_little_fills_no_batch_over_its_limit(
    make: Make, corpus: Path, tmp_path: Path, views: int
) -> None:
    rows = [
        {"id": n, "path": str(corpus / f"{n}.flac"), "duration": 0.9, "text": "a"}
        for n in IDS[12:18]
    ]  # 0.9 to 1.15 s
    write_tsv(tmp_path / "m.tsv", rows)
    most = 560 * views
    loader = make(
        {"train": [{"manifest": str(tmp_path / "m.tsv")}], "max_frames": most, "views": views}
    )
    (batch,) = loader.epoch(0)
    assert batch is not None and batch.feats.shape[0] * batch.feats.shape[1] <= most
    assert len(batch.ids) == 5 * views
    assert [n for n, _ in loader.quarantine] == ["u17"]
    assert "more than the manifest says" in loader.quarantine[0][1]


def test_all_broken_is_an_error(make: Make, tmp_path: Path) -> None:
    rows = [{"id": f"x{n}", "path": f"x{n}.wav", "duration": 1.0, "text": "abc"} for n in range(9)]
    write_tsv(tmp_path / "m.tsv", rows)
    loader = make({"train": [{"manifest": str(tmp_path / "m.tsv")}]})
    with pytest.raises(InputError, match=r"nothing could be read in a whole epoch .*no such file"):
        list(loader.epoch(0))


def test_workers_change_nothing(make: Make) -> None:
    alone = [list(make(AUGMENTED).epoch(e, s)) for e, s in ((0, 0), (1, 2))]
    loader = make(AUGMENTED, workers=2)
    state = torch.get_rng_state()
    assert_equal(list(loader.epoch(0)), alone[0])
    partly = loader.epoch(0)
    next(partly)
    del partly  # an epoch may be left, the next is whole
    assert_equal(list(loader.epoch(1, 2)), alone[1])
    assert torch.equal(torch.get_rng_state(), state)  # the model's random numbers are its own
    loader.close()


def test_interrupts_are_the_main_processes_business(make: Make) -> None:
    loader = make({"max_frames": 220}, workers=1)
    others, over = set(multiprocessing.active_children()), threading.Event()

    def interrupt() -> None:
        while not over.wait(0.01):
            for reader in set(multiprocessing.active_children()) - others:
                assert reader.pid is not None
                os.kill(reader.pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert sorted(ids(loader.epoch(0))) == IDS
    finally:
        over.set()
        thread.join()
        loader.close()


def test_shards_give_the_same_batches_but_for_names(make: Make, corpus: Path, tmp_path: Path
                                                    ) -> None:  # fmt: skip
    write_shards(read_manifest(corpus), tmp_path / "shards", size=5)
    from_tars = make(AUGMENTED | {"train": [{"manifest": str(tmp_path / "shards")}]})
    assert_equal(list(from_tars.epoch(0)), list(make(AUGMENTED).epoch(0)))


def test_a_corrupted_member_is_left_out(make: Make, corpus: Path, tmp_path: Path) -> None:
    (shard,) = write_shards(read_manifest(corpus), tmp_path / "shards")
    (bad, *_) = [c for c in read_manifest(tmp_path / "shards") if c.id == "u07"]
    data = bytearray(shard.read_bytes())
    start = bad.recording.byte_start
    data[start : start + 500] = bytes(500)
    shard.write_bytes(data)
    loader = make({"train": [{"manifest": str(tmp_path / "shards")}]})
    assert sorted(ids(loader.epoch(0))) == [n for n in IDS if n != "u07"]
    assert [n for n, _ in loader.quarantine] == ["u07"]


@pytest.fixture
def packed(corpus: Path, tmp_path: Path) -> Path:
    """The corpus in compressed tars."""
    for path in write_shards(read_manifest(corpus), tmp_path / "shards", size=5):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path


def test_compressed_tars_are_read_in_one_pass(make: Make, packed: Path) -> None:
    table = AUGMENTED | {"train": [{"manifest": str(packed)}]}
    loaders = [make(table, rank=rank, world=3) for rank in range(3)]
    rounds = [list(loader.epoch(1)) for loader in loaders]
    assert sorted(ids([b for r in rounds for b in r])) == IDS
    assert len({len(r) for r in rounds} | {loader.num_rounds(1) for loader in loaders}) == 1
    assert_equal(list(make(table, rank=1, world=3).epoch(1, 2)), rounds[1][2:])
    assert ids(loaders[0].epoch(0)) != ids(loaders[0].epoch(1))


def test_streams_and_places_do_not_mix(make: Make, packed: Path, corpus: Path) -> None:
    with pytest.raises(InputError, match="cannot be mixed"):
        make({"train": [{"manifest": str(packed)}, {"manifest": str(corpus)}]})


def test_noise_and_rooms(make: Make, corpus: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", 0.1 * rng.standard_normal(3000), 8000)
    soundfile.write(tmp_path / "room.wav", np.exp(-np.arange(800) / 80) * 0.1, 8000)
    write_tsv(tmp_path / "n.tsv", [{"id": "n", "path": "noise.wav"}])
    write_tsv(tmp_path / "r.tsv", [{"id": "r", "path": "room.wav"}])
    table = {
        "noise": {"manifest": str(tmp_path / "n.tsv"), "probability": 1.0, "snr": [0, 0]},
        "reverb": {"manifest": str(tmp_path / "r.tsv"), "probability": 0.5},
    }
    noisy, plain = list(make(table).epoch(0)), list(make().epoch(0))
    assert_equal(noisy, list(make(table).epoch(0)))
    assert ids(noisy) == ids(plain)
    for one, other in zip(noisy, plain, strict=True):
        assert one is not None and other is not None
        assert torch.equal(one.feat_lens, other.feat_lens)
        assert not torch.equal(one.feats, other.feats)
    with pytest.raises(InputError, match="no such manifest"):
        make({"noise": {"manifest": str(tmp_path / "none.tsv")}})


def test_what_is_mixed_in_takes_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n}.wav" for n in range(5)]
    for name in names:
        soundfile.write(tmp_path / name, 0.1 * np.ones(1000), 8000)
    write_tsv(tmp_path / "n.tsv", [{"id": name, "path": name} for name in names])
    monkeypatch.setattr(augment, "MEMORY", 9000)  # bytes: two recordings
    monkeypatch.setattr(augment, "_kept", OrderedDict())
    found = augment.Recordings(str(tmp_path / "n.tsv"), {}, {}, "")
    for position in [*found.positions, found.positions[-2]]:
        assert found.read(int(position), 8000, lambda *_: None) is not None
        assert len(augment._kept) <= 2
    assert [place[1] for place in augment._kept] == [found.positions[-1], found.positions[-2]]


@pytest.mark.parametrize("kind", ["noise", "reverb"])
def test_what_cannot_be_mixed_in_is_left_out_itself(make: Make, tmp_path: Path, kind: str) -> None:
    (tmp_path / "bad.wav").write_text("this is no recording")
    soundfile.write(tmp_path / "silent.wav", np.zeros(800), 8000)
    rows = [{"id": f"mixed-{n}", "path": f"{n}.wav", "duration": 1.0} for n in ("bad", "silent")]
    write_tsv(tmp_path / "m.tsv", rows)
    loader = make({kind: {"manifest": str(tmp_path / "m.tsv"), "probability": 1.0}})
    for _ in range(2):
        assert sorted(ids(loader.epoch(0))) == IDS
    assert sorted(name for name, _ in loader.quarantine) == ["mixed-bad", "mixed-silent"]
    assert all("cannot be mixed in" in reason for _, reason in loader.quarantine)


def test_root_of_the_sets(make: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYNAH_DATA", str(corpus.parent))
    assert sorted(ids(make({"train": [{"manifest": corpus.name}]}).epoch(0))) == IDS
    monkeypatch.delenv("MYNAH_DATA")
    table = {"train": [{"manifest": corpus.name}], "root": str(corpus.parent)}
    assert sorted(ids(make(table).epoch(0))) == IDS
    with pytest.raises(InputError, match="the set 'nothing' is not under"):
        make(table | {"train": [{"manifest": "nothing"}]})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"max_frame": 3}, "max_frame: unknown key .*'max_frames'"),
        ({"max_frames": 0}, "max_frames: must be at least 1"),
        ({"views": 0}, "views: must be at least 1"),
        ({"views": 3, "max_items": 2}, "views: 3 of an utterance are more than a batch"),
        ({"speed": [0.0]}, "speed: factors are from 0.25 to 4"),
        ({"min_seconds": 40.0}, "min_seconds: must be"),
        ({"text": "lowr"}, "text: 'lowr' is none of .*'lower'"),
        ({"train": [{"manifest": "x", "repeat": 0}]}, r"train\[0\]: repeat: must be at least 1"),
        ({"train": [{"manifest": "x", "fraction": 2.0}]}, "fraction: must be"),
        ({"noise": {"manifest": "x", "snr": [9, 5]}}, "noise: snr: from 9.0 to 5.0 is no range"),
        ({"train": []}, "data.train: lists no manifest"),
        ({}, "data.dev: lists no manifest"),
    ],
)
def test_wrong_settings(make: Make, table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(table, which="train" if table else "dev")


def test_nothing_usable_is_one_line(make: Make, corpus: Path) -> None:
    with pytest.raises(InputError, match=r"data.train: no utterance can be used .*min_seconds"):
        make({"min_seconds": 5.0})
    with pytest.raises(InputError, match="no utterance meets the conditions"):
        make({"train": [{"manifest": str(corpus), "where": {"split": "test"}}]})
    with pytest.raises(InputError, match="more than max_frames = 20 holds"):
        make({"max_frames": 20})


def test_configuration_is_frozen_and_round_trips(corpus: Path) -> None:
    from mynah.config import as_dict

    config = build(DataConfig, AUGMENTED | {"train": [{"manifest": "x", "where": {"a": [1, 2]}}]})
    assert build(DataConfig, as_dict(config)) == config


def test_what_has_no_place_of_its_own_is_refused(
    corpus: Path, tmp_path: Path, frontend: audio.Frontend, tokenizer: Tokenizer
) -> None:
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as tar:
        for path in sorted(corpus.glob("*.flac"))[:3]:
            tar.add(path, path.name)
            (tmp_path / "text").write_text("Ab", "utf-8")
            tar.add(tmp_path / "text", f"{path.stem}.txt")
    config = build(DataConfig, {"train": [{"manifest": str(tmp_path / "all.tar.gz")}]})
    loader = Loader(config, "train", tokenizer, frontend, seed=3, workers=0)
    assert any(loader.epoch(0)), "it can be read otherwise"
    with pytest.raises(ConfigError, match=r"data\.resident: not for compressed tars"):
        Resident(loader, frontend, torch.device("cpu"))
