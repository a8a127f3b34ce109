"""A set in the device's memory gives what the loader gives, and varies it by the same rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from mynah.audio import Frontend, augment, make_frontend
from mynah.config import build
from mynah.data import device
from mynah.data.config import CropConfig, DataConfig, JoinConfig, SilenceConfig
from mynah.data.loader import Batch, Loader
from mynah.data.pieces import crop as crop_one
from mynah.data.pieces import surround
from mynah.data.resident import Resident, to_int16
from mynah.data.stretches import Recorded, draw_following, draw_stretches
from mynah.errors import ConfigError
from mynah.text import Tokenizer

CPU = torch.device("cpu")
FRONTEND = make_frontend({"kind": "fbank", "num_mels": 40})
Make = Callable[..., tuple[Loader, Resident]]


@pytest.fixture
def both(corpus: Path, frontend: Frontend, tokenizer: Tokenizer) -> Make:
    def make(augment: bool = True, **data: Any) -> tuple[Loader, Resident]:
        manifest = str(corpus / "manifest.tsv")
        values = {"train": [{"manifest": manifest}], "speed": [], "max_frames": 500, **data}
        config = build(DataConfig, values)

        def loader() -> Loader:
            return Loader(config, "train", tokenizer, frontend, seed=3, workers=0, augment=augment)

        return loader(), Resident(loader(), frontend, CPU)

    return make


@pytest.fixture
def known(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """The options of a set that says which unit sounds when."""
    head, *lines = (corpus / "manifest.tsv").read_text("utf-8").splitlines()
    table = [f"{head}\tsounds", *(f"{line}\tsil 2 A 6 sil 4 b 8" for line in lines)]
    (tmp_path / "known.tsv").write_text("\n".join(table).replace("\tu", f"\t{corpus}/u") + "\n")
    return {"train": [{"manifest": str(tmp_path / "known.tsv")}], "alignment": "sounds"}


def full(batches: Any) -> list[Batch]:
    return [batch for batch in batches if batch is not None]


def test_the_batches_are_the_loaders(both: Make) -> None:
    loader, resident = both()
    expected, found = full(loader.epoch(1)), full(resident.epoch(1))
    assert resident.num_rounds(1) == loader.num_rounds(1) == len(found) > 2
    for a, b in zip(expected, found, strict=True):
        assert (a.ids, a.texts) == (b.ids, b.texts)
        for name in ("feat_lens", "tokens", "token_lens"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert a.feats.shape == b.feats.shape
        assert (a.feats - b.feats).abs().max() < 0.02  # 16-bit samples
    again = full(resident.epoch(1, start=1))
    assert [b.ids for b in again] == [b.ids for b in found[1:]]


def test_faster_and_slower(both: Make) -> None:
    loader, resident = both(speed=[0.8, 1.0, 1.25])
    for a, b in zip(full(loader.epoch(0)), full(resident.epoch(0)), strict=True):
        assert a.ids == b.ids and torch.equal(a.feat_lens, b.feat_lens)
        for row, size in enumerate(a.feat_lens.tolist()):
            # the last bins lie where the two resamplers' filters end
            difference = (a.feats - b.feats)[row, 2 : size - 2, :6].abs()
            assert difference.median() < 0.05


def test_views_are_beside_one_another(both: Make) -> None:
    loader, resident = both(views=2, color={}, speed=[0.8, 1.25])
    for a, b in zip(full(loader.epoch(0)), full(resident.epoch(0)), strict=True):
        assert (a.ids, a.views) == (b.ids, b.views) and b.views == 2
        assert torch.equal(a.feat_lens, b.feat_lens) and torch.equal(a.tokens, b.tokens)
        assert (b.feats[::2] - b.feats[1::2]).abs().amax((1, 2)).min() > 0.01


def test_views_are_of_the_same_piece(both: Make, known: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        **known, "crop": {"probability": 0.7, "seconds": [0.05, 0.15]}, "color": {}, "views": 2,
        "silence": {"probability": 0.7, "seconds": [0.0, 0.2]}, "max_frames": 200,
    }  # fmt: skip
    for made in both(**values):
        batches = full(made.epoch(0))
        for batch in batches:
            assert torch.equal(batch.feat_lens[::2], batch.feat_lens[1::2])
            assert torch.equal(batch.tokens[::2], batch.tokens[1::2])
            assert batch.labels is not None
            assert torch.equal(batch.labels[::2], batch.labels[1::2])
            assert not torch.equal(batch.feats[::2], batch.feats[1::2])
        assert len({size for batch in batches for size in batch.feat_lens.tolist()}) > 3


def test_another_rhythm(both: Make, known: dict[str, Any]) -> None:
    values: dict[str, Any] = {**known, "views": 2, "max_frames": 200}
    for plain, made in zip(both(**values), both(**values, tempo={"width": 0.5}), strict=True):
        changed = 0
        for a, b in zip(full(plain.epoch(0)), full(made.epoch(0)), strict=True):
            assert torch.equal(a.feat_lens, b.feat_lens) and torch.equal(a.tokens, b.tokens)
            assert torch.equal(b.feats[::2], b.feats[1::2])  # views keep to one rhythm
            assert a.labels is not None and b.labels is not None
            for row, size in enumerate(b.feat_lens.tolist()):
                for x, y in ((a.labels, b.labels), (a.feats, b.feats)):
                    assert torch.equal(x[row, size:], y[row, size:])
                    assert (x[row, [0, size - 1]] - y[row, [0, size - 1]]).abs().max() < 1e-3
                # the units follow one another as before
                orders = [torch.unique_consecutive(x.labels[row, :size]) for x in (a, b)]
                assert torch.equal(*orders)
                changed += int(not torch.equal(a.labels[row], b.labels[row]))
        assert changed > 5
    for name in ("tempo", "crop", "silence"):
        with pytest.raises(ConfigError, match=f"{name}: moves the times that this task learns"):
            Loader(
                build(DataConfig, {**values, name: {}, "resident": False}), "train", None, FRONTEND,
                seed=1, targets=Mock(margin=0.0),
            )  # fmt: skip


def test_vocal_tracts_of_other_shapes(both: Make) -> None:
    straight = both(warp={"width": 0.0})
    for plain, bent in zip(straight, both(warp={"width": 0.0, "bend": 2.0}), strict=True):
        for a, b in zip(full(plain.epoch(0)), full(bent.epoch(0)), strict=True):
            assert torch.equal(a.feat_lens, b.feat_lens)
            changed = (a.feats - b.feats).abs().amax((1, 2))
            assert changed.min() > 0.01  # each row, and each in its own way
            assert len(set(changed.tolist())) == len(changed)


def test_noise_that_is_made(
    corpus: Path, both: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mynah.data.resident._MADE", 3)
    monkeypatch.setattr("mynah.data.resident._MADE_SECONDS", 2.0)
    manifest = str(corpus / "manifest.tsv")
    noise = {"manifest": manifest, "probability": 1.0, "snr": [0.0, 0.0]}
    _, clean = both()
    _, made = both(noise={**noise, "made": 1.0})
    _, again = both(noise={**noise, "made": 1.0})
    _, recorded = both(noise=noise)
    noisy = [full(x.epoch(0)) for x in (clean, made, again, recorded)]
    for a, b, c, d in zip(*noisy, strict=True):
        assert torch.equal(b.feats, c.feats)
        assert (a.feats - b.feats).abs().mean() > 0.1 < (b.feats - d.feats).abs().mean()
    vary = made._vary
    assert vary is not None
    rng = np.random.default_rng(0)
    stock = np.concatenate(vary.noise[vary._recorded :])
    for row in vary._stretches(rng, 8, 500, made=1.0).numpy():
        starts = np.flatnonzero(stock == row[0])
        assert any(np.array_equal(stock[s : s + 500], row) for s in starts)
    of_both = vary._stretches(rng, 400, 1, made=0.5).numpy()[:, 0]
    assert 0.35 < np.isin(of_both, stock).mean() < 0.75


def test_a_batch_is_varied_by_its_place_alone(both: Make) -> None:
    varied = {"spec_augment": {"time_width": 9}, "color": {}, "warp": {}}
    _, resident = both(**varied)
    _, other = both(**varied)
    first, second = full(resident.epoch(0)), full(other.epoch(0, start=1))
    assert all(torch.equal(a.feats, b.feats) for a, b in zip(first[1:], second, strict=True))
    _, plain = both()
    assert all(
        not torch.allclose(a.feats, b.feats)
        for a, b in zip(first, full(plain.epoch(0)), strict=True)
    )


def test_each_epoch_draws_anew(corpus: Path, both: Make) -> None:
    alone = {"train": [{"manifest": str(corpus / "manifest.tsv"), "limit": 1}]}
    _, resident = both(**alone, color={})
    (first,), (second,) = full(resident.epoch(0)), full(resident.epoch(1))
    assert first.ids == second.ids
    assert not torch.allclose(first.feats, second.feats)


def test_known_sounds_follow_the_speed(corpus: Path, both: Make, tmp_path: Path) -> None:
    head, *lines = (corpus / "manifest.tsv").read_text("utf-8").splitlines()
    table = [f"{head}\tsounds", *(f"{x}\tA 9 sil 7 b {n}" for n, x in enumerate(lines, 30))]
    text = "\n".join(table).replace("\tu", f"\t{corpus}/u")
    (tmp_path / "known.tsv").write_text(text + "\n", "utf-8")
    loader, resident = both(
        train=[{"manifest": str(tmp_path / "known.tsv")}], alignment="sounds", speed=[0.8, 1.25]
    )
    for a, b in zip(full(loader.epoch(0)), full(resident.epoch(0)), strict=True):
        assert a.ids == b.ids and a.labels is not None and b.labels is not None
        assert len(a.labels.unique()) == 4  # A, b, silence, not known
        # a set keeps labels for the frames of a recording as it is: the last may be missing
        assert (a.labels != b.labels).sum(1).max() <= 1


def test_pieces_and_silence(both: Make, known: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        **known, "crop": {"probability": 1.0, "seconds": [0.05, 0.1], "margin": 0.02},
        "silence": {"probability": 1.0, "seconds": [0.2, 0.2], "level": [-90.0, -90.0]},
    }  # fmt: skip
    _, resident = both(**values)
    found = set()
    for batch in full(resident.epoch(0)):
        assert batch.labels is not None
        for row, size in enumerate(batch.feat_lens.tolist()):
            labels, said = batch.labels[row, :size], batch.tokens[row, : batch.token_lens[row]]
            assert torch.unique_consecutive(labels[labels > 0]).tolist() == said.tolist()
            found.add(tuple(said.tolist()))
            assert (labels[:20] == 0).all() and (labels[-17:] == 0).all()
            energy = batch.feats[row, :size].amax(1)
            # a window reaches two frames on
            assert energy[:17].max() < energy[20:-18].min() - 6 > energy[-17:].max()
    assert len(found) == 3


def test_pieces_that_follow_one_another(both: Make, known: dict[str, Any]) -> None:
    values: dict[str, Any] = {
        **known, "crop": {"probability": 1.0, "seconds": [0.05, 0.05], "margin": 0.0},
        "silence": {"probability": 0.5, "seconds": [0.3, 0.3], "level": [-90.0, -90.0]},
        "views": 2, "resident": True,
    }  # fmt: skip
    _, alone = both(**values)
    _, resident = both(**values, join={"probability": 1.0, "pause": [0.1, 0.2]})
    found = set()
    for before, batch in zip(full(alone.epoch(0)), full(resident.epoch(0)), strict=True):
        assert batch.labels is not None and batch.ids == before.ids
        assert batch.feat_lens.max() == before.feat_lens.max()  # there was room
        for row, size in enumerate(batch.feat_lens.tolist()):
            labels, said = batch.labels[row, :size], batch.tokens[row, : batch.token_lens[row]]
            assert torch.unique_consecutive(labels[labels > 0]).tolist() == said.tolist()
            assert (
                said[: before.token_lens[row]].tolist()
                == before.tokens[row][: before.token_lens[row]].tolist()
            )
            where = torch.nonzero(labels > 0).flatten()
            energy = batch.feats[row, :size].amax(1)
            if len(said) > int(before.token_lens[row]):
                gap = where.diff().max()
                assert 10 <= gap <= 21  # a pause, in which nothing is heard
                middle = int(where[where.diff().argmax()]) + int(gap) // 2
                assert energy[middle] < energy[where].min() - 4
            found.add((tuple(said.tolist()), size))
        assert torch.equal(batch.tokens[::2], batch.tokens[1::2])  # views are of the same
    assert {len(said) for said, _ in found} == {1, 2}


def test_what_follows_is_the_same_speakers() -> None:
    ids, runs = {"A": 1, "b": 2}, (("sil", 10), ("A", 20), ("b", 30), ("sil", 15))
    crop, join = CropConfig(1.0, (0.1, 0.5), 0.05), JoinConfig(0.7, (0.0, 0.3))
    silence = SilenceConfig(0.5, (0.1, 0.3))
    config = DataConfig(alignment="x", crop=crop, join=join, silence=silence, resident=True)
    lens, frames = np.full(6, 75 * 160), np.full(6, 75)
    spoken_by = {"one": [0, 2, 4], "two": [1, 3, 5]}
    recorded = Recorded(lens, frames, [runs] * 6, ["one", "two"] * 3, spoken_by)
    rows, joined = np.array([0, 1, 2, 5, 0]), 0
    whole = np.repeat([0, 1, 2, 0], [10, 20, 30, 15])
    for seed in range(60):
        rng = np.random.default_rng(seed)
        plain = draw_stretches(rng, lens[rows], frames[rows], [runs] * 5, ids, config, 16_000)
        cut = draw_following(rng, rows, plain, recorded, ids, config, 16_000)
        assert cut.lens.max() == plain.lens.max()
        if (more := cut.following) is None:
            continue
        joined += len(more.of)
        assert (rows[more.of] % 2 == more.rows % 2).all()
        second = more.stretches
        pause = second.lead - (cut.lead + cut.count)[more.of]
        assert (pause >= 0).all() and (pause <= 0.3 * 16_000).all()
        assert (cut.said[more.of] == cut.count[more.of] + second.count).all()
        for place, row in enumerate(more.of):
            assert cut.lens[row] == plain.lens[row] + pause[place] + second.count[place]
            at = np.arange(int(cut.lens[row]) // 160)
            told = np.full(len(at), -1)
            for part, number in ((cut, row), (second, place)):
                where = at - part.shift[number]
                kept = (where >= part.first[number]) & (where < part.stop[number])
                told[kept] = whole[where[kept]]
                told[
                    (told < 0)
                    & (where < part.last[number])
                    & ((part is cut) | (where >= part.first[number]))
                ] = 0
            changes = np.flatnonzero(np.diff(told, prepend=0))
            assert [u for u in told[changes] if u > 0] == cut.units[row].tolist()
            assert (told >= 0).all()  # nothing is unknown
    assert joined > 40
    nobody = replace(recorded, speakers=[""] * 6, spoken_by={"": range(6)})
    for seed in range(20):
        rng = np.random.default_rng(seed)
        plain = draw_stretches(rng, lens[rows], frames[rows], [runs] * 5, ids, config, 16_000)
        assert draw_following(rng, rows, plain, nobody, ids, config, 16_000).following is None


def test_the_floor_of_a_microphone(both: Make) -> None:
    def silence(level: float) -> np.ndarray:
        table = {"probability": 1.0, "seconds": [0.2, 0.2], "level": [level, level]}
        _, resident = both(silence=table)
        return np.array([float(r[:17].mean()) for b in full(resident.epoch(0)) for r in b.feats])

    # decibels in natural logarithms of power; one of four has no floor at all
    higher = (silence(-20.0) - silence(-60.0)) * 10 / np.log(10)
    assert np.median(higher) == pytest.approx(40, abs=1)
    assert 0.5 < (higher > 1).mean() < 1


def test_stretches_are_drawn_as_for_one(both: Make) -> None:
    runs = (("sil", 10), ("A", 20), ("b", 30), ("sil", 15))
    crop, silence = CropConfig(1.0, (0.1, 0.4), 0.05), SilenceConfig(1.0, (0.1, 0.3))
    config = DataConfig(alignment="x", crop=crop, silence=silence)
    ids = {"A": 1, "b": 2}
    lens = np.array([75 * 160])
    sound = np.repeat(np.arange(75, dtype=np.float32) + 1, 160)
    for seed in range(50):
        found = draw_stretches(
            np.random.default_rng(seed), lens, np.array([75]), [runs], ids, config, 16_000
        )
        rng = np.random.default_rng(seed)
        rng.random()
        piece, its = crop_one(rng, sound, runs, ids, crop, 16_000)
        rng.random()
        padded, lead, tail = surround(rng, piece, silence, 16_000)
        begin, count = int(found.begin[0]), int(found.count[0])
        np.testing.assert_array_equal(sound[begin : begin + count], piece)
        assert found.lens.tolist() == [len(padded)]
        assert (found.lead[0], found.tail[0]) == (160 * lead, 160 * tail)
        assert found.units[0].tolist() == [ids[name] for name, _ in its if name in ids]
        labels = [0] * lead + [ids.get(name, 0) for name, n in its for _ in range(n)] + [0] * tail
        at = np.arange(len(labels)) - found.shift[0]
        whole = np.repeat([0, 1, 2, 0], [10, 20, 30, 15])
        kept = (at >= found.first[0]) & (at < found.stop[0])
        told = np.where(kept, whole[np.clip(at, 0, 74)], 0)
        assert told.tolist() == labels and at[-1] + 1 == found.last[0]


def test_channels_are_those_of_one_utterance(both: Make) -> None:
    signal = 0.1 * np.random.default_rng(0).standard_normal(8192).astype(
        np.float32
    )  # as long as its transform
    for seed in range(8):
        rng = np.random.default_rng(seed)
        band = augment.draw_band(rng)
        expected = augment.narrowed(np.random.default_rng(seed), signal, 16_000)
        found = device.narrowed(
            torch.from_numpy(signal)[None], torch.tensor([[band.low, band.high]]),
            torch.tensor([band.coded]), 16_000,
        )[0].numpy()  # fmt: skip
        # 8 bits make more of a difference
        difference = np.square(found - expected).mean() / np.square(expected).mean()
        assert difference < 1e-5
    clipped = device.clipped(
        torch.tensor([[1.0, -2.0, 0.5], [0.1, 0.1, 0.0]]), torch.tensor([0.5, 1])
    )
    assert clipped.tolist() == [[1.0, -1.0, 0.5], pytest.approx([0.1, 0.1, 0.0])]
    _, plain = both()
    for channel in ({"narrow": 1.0, "clipped": 0.0}, {"narrow": 0.0, "clipped": 1.0}):
        _, varied = both(channel=channel)
        for a, b in zip(full(varied.epoch(0)), full(plain.epoch(0)), strict=True):
            assert torch.equal(a.feat_lens, b.feat_lens) and not torch.allclose(a.feats, b.feats)


def test_development_sets_are_not_varied(both: Make) -> None:
    _, varied = both(augment=False, color={}, spec_augment={})
    _, plain = both()
    for a, b in zip(full(varied.epoch(0)), full(plain.epoch(0)), strict=True):
        assert torch.equal(a.feats, b.feats)


def test_what_is_not_there_is_refused(both: Make) -> None:
    with pytest.raises(ConfigError, match="spec_sub"):
        both(resident=True, spec_sub={})
    loader, _ = both()
    with pytest.raises(ConfigError, match="fbank"):
        Resident(loader, make_frontend({"kind": "mfcc"}), CPU)


def test_fbank_is_the_front_ends() -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal(16000).astype(np.float32) * 0.1
    fbank = device.Fbank(FRONTEND.config, CPU)  # type: ignore[arg-type]
    found = fbank(torch.from_numpy(signal)[None])[0]
    expected = FRONTEND(signal)
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() < 2e-3
    assert fbank(torch.zeros(2, 100)).shape == (2, 0, 40)
    assert fbank.frames(torch.tensor([0, 399, 400, 560])).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25])
def test_speed_is_a_resampling(factor: float) -> None:
    at = np.arange(16000) / 16000
    signal = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    found = device.speed(torch.from_numpy(signal)[None], factor)[0].numpy()
    expected = np.sin(2 * np.pi * 440 * factor * np.arange(round(16000 / factor)) / 16000)
    assert found.shape == expected.shape
    assert np.abs(found - expected)[100:-100].max() < 2e-3
    assert np.abs(found - augment.speed(signal, factor))[100:-100].max() < 2e-3


def test_rooms_and_noise_as_in_numpy() -> None:
    rng = np.random.default_rng(1)
    speech = rng.standard_normal(3000).astype(np.float32)
    room = (rng.standard_normal(400) * np.exp(-np.arange(400) / 80)).astype(np.float32)
    room[30] = 5.0
    from mynah.data.resident import _circles

    padded = torch.zeros(2, 3500)
    padded[0, :3000] = torch.from_numpy(speech)
    padded[1, :3000] = torch.from_numpy(speech)
    lens = torch.tensor([3000, 3000])
    rooms = _circles([room, room[:350]])
    wet = device.reverberate(padded, lens, rooms)
    assert np.abs(wet[0, :3000].numpy() - augment.reverberate(speech, room)).max() < 1e-3
    assert not wet[0, 3000:].any()
    noise = torch.from_numpy(rng.standard_normal((2, 3500)).astype(np.float32))
    noisy = device.add_noise(padded, lens, noise, torch.tensor([10.0, 3.0])) - padded
    for row, snr in enumerate((10.0, 3.0)):
        ratio = padded[row, :3000].square().mean() / noisy[row, :3000].square().mean()
        assert 10 * float(ratio.log10()) == pytest.approx(snr, abs=0.01)
    assert not noisy[:, 3000:].any()


def test_features_are_varied_as_in_numpy() -> None:
    rng = np.random.default_rng(2)
    feats = rng.standard_normal((50, 40)).astype(np.float32)
    for seed in range(3):
        drawn = np.random.default_rng(seed)
        factor = np.exp(drawn.uniform(-np.log1p(0.1), np.log1p(0.1)))
        expected = augment.warp_frequency(np.random.default_rng(seed), feats, width=0.1)
        found = device.warp_frequency(
            torch.from_numpy(feats)[None], torch.tensor([factor], dtype=torch.float32), 16000
        )
        assert np.abs(found[0].numpy() - expected).max() < 1e-3
        expected = augment.warp_frequency(np.random.default_rng(seed), feats, width=0.1, bend=1.5)
        moved = augment.bends(augment.draw_bends(drawn, 1, 1.5), 40)
        found = device.warp_frequency(
            torch.from_numpy(feats)[None],
            torch.tensor([factor], dtype=torch.float32),
            16000,
            torch.from_numpy(moved),
        )
        assert np.abs(found[0].numpy() - expected).max() < 1e-3
        places = augment.draw_tempo(drawn, [50], 0.3)
        found = device.at_places(torch.from_numpy(feats)[None], torch.from_numpy(places))
        assert np.abs(found[0].numpy() - augment.at_places(feats, places[0])).max() < 1e-5
        heights = np.random.default_rng(seed).standard_normal(4) * (1.0, 0.5, 0.5, 0.5)
        expected = augment.color(np.random.default_rng(seed), feats)
        found = device.color(
            torch.from_numpy(feats)[None], torch.tensor(heights[None], dtype=torch.float32)
        )
        assert np.abs(found[0].numpy() - expected).max() < 1e-4


def test_masks_hide_what_was_drawn() -> None:
    feats = torch.arange(2 * 6 * 4, dtype=torch.float32).reshape(2, 6, 4) + 1.0
    time = torch.tensor([[[1, 2]], [[5, 9]]])
    frequency = torch.tensor([[[0, 1]], [[3, 0]]])
    lens = torch.tensor([6, 4])
    found = device.mask(feats, lens, time, frequency, fill=None)
    assert (found[0, 1:3] == feats[0].mean()).all() and (found[0, :, 0] == feats[0].mean()).all()
    assert torch.equal(found[1, :5], feats[1, :5])
    assert (found[1, 5] == feats[1, :4].mean()).all()
    assert not device.mask(feats, lens, time, frequency, fill=0.0)[0, 1:3].any()


def test_samples_are_rounded_and_clipped() -> None:
    found = to_int16(np.array([0.0, 1.0, -1.0, -2.0, 0.4 / 32768, 0.6 / 32768], np.float32))
    assert found.tolist() == [0, 32767, -32768, -32768, 0, 1]


def test_transforms_have_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, plain = set(), torch.fft.rfft

    def rfft(x: torch.Tensor, size: int) -> torch.Tensor:
        shapes.add((len(x), size))
        return plain(x, size)

    monkeypatch.setattr(torch.fft, "rfft", rfft)
    rng = np.random.default_rng(0)
    fbank = device.Fbank(FRONTEND.config, CPU)  # type: ignore[arg-type]
    for _ in range(150):
        rows, size = int(rng.integers(1, 200)), int(rng.integers(8_000, 40_000))
        samples, lens = torch.zeros(rows, size), torch.full((rows,), size)
        fbank(samples[:1])
        device.reverberate(samples[:4], lens[:4], torch.ones(min(rows, 4), 4000))
        device.narrowed(samples, torch.zeros(rows, 2), torch.zeros(rows, dtype=torch.bool), 16_000)
    assert len(shapes) < 90
