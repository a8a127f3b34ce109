"""Tars: written, indexed, read at any place or in one pass, local and remote, whole and damaged."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah import audio
from mynah.corpus import (
    Cut,
    LineManifest,
    StreamManifest,
    load,
    open_manifest,
    read_manifest,
    write_shards,
    write_tsv,
)
from mynah.corpus.shards import index_path
from mynah.errors import InputError

RATE = 8000
COUNT = 7


@pytest.fixture
def cuts(tmp_path: Path) -> list[Cut]:
    """Seven recordings in three formats."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(COUNT):
        name = f"utt{number}.{('wav', 'flac', 'ogg')[number % 3]}"
        samples = 0.1 * rng.standard_normal(RATE // 2 + 100 * number)
        soundfile.write(tmp_path / name, samples, RATE)
        rows.append({"id": f"utt{number}", "path": name, "speaker": f"s{number % 2}",
                     "duration": len(samples) / RATE, "text": f"文 text {number}",
                     "age": number})  # fmt: skip
    write_tsv(tmp_path / "manifest.tsv", rows)
    return list(read_manifest(tmp_path))


def check_same(found: list[Cut], cuts: list[Cut]) -> None:
    assert [c.id for c in found] == [c.id for c in cuts]
    for one, other in zip(found, cuts, strict=True):
        assert one.text == other.text
        assert one.duration == pytest.approx(other.duration, abs=1e-5)
        np.testing.assert_array_equal(load(one, audio.read), load(other, audio.read))


def test_written_and_read_back(cuts: list[Cut], tmp_path: Path) -> None:
    shards = write_shards(cuts, tmp_path / "shards", size=3)
    assert [(p.name, n) for p, n in shards.items()] == [
        ("shard-000000.tar", 3), ("shard-000001.tar", 3), ("shard-000002.tar", 1)
    ]  # fmt: skip
    found = list(read_manifest(tmp_path / "shards"))
    check_same(found, cuts)
    assert [c.value("age") for c in found] == [str(n) for n in range(COUNT)]
    assert [c.speaker for c in found] == [c.speaker for c in cuts]
    with tarfile.open(tmp_path / "shards" / "shard-000000.tar") as archive:
        assert archive.getnames()[:4] == ["utt0.wav", "utt0.txt", "utt1.flac", "utt1.txt"]
    assert not list((tmp_path / "shards").glob(".*"))


def test_random_places(cuts: list[Cut], tmp_path: Path) -> None:
    write_shards(cuts, tmp_path / "shards", size=3)
    manifest = open_manifest(tmp_path / "shards")
    assert isinstance(manifest, LineManifest)
    positions = [p for p, _ in manifest.scan()]
    check_same([manifest.at(p) for p in positions[::-1]], cuts[::-1])


def test_wenet_shard_list_without_index(cuts: list[Cut], tmp_path: Path) -> None:
    for path in write_shards(cuts, tmp_path / "shards", size=4):
        Path(index_path(str(path))).unlink()
    lines = sorted(str(p) for p in (tmp_path / "shards").glob("*.tar"))
    (tmp_path / "shards.list").write_text("\n".join(lines) + "\n")
    check_same(list(read_manifest(tmp_path / "shards.list")), cuts)


def test_remote_range_reads(cuts: list[Cut], tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    write_shards(cuts, tmp_path / "shards", size=3)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shards"), "/corpus/", recursive=True)
    folder = "memory://corpus/shards" if memory.exists("/corpus/shards") else "memory://corpus"
    check_same(list(read_manifest(folder)), cuts)
    memory.pipe("/m.tsv", b"id\tpath\tbyte_start\tbyte_size\nx\tmemory://nothing.tar\t0\t9\n")
    with pytest.raises(InputError, match=r"memory://nothing.tar: no such file"):
        load(next(read_manifest("memory://m.tsv")), audio.read)
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest("memory://nothing.tsv")


def test_a_compressed_tar_is_a_stream(
    cuts: list[Cut], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shard,) = write_shards(cuts, tmp_path / "shards", size=100)
    packed = tmp_path / "one.tar.gz"
    packed.write_bytes(gzip.compress(shard.read_bytes()))
    manifest = open_manifest(packed)
    assert isinstance(manifest, StreamManifest)
    assert "resuming replays" in caplog.text
    check_same(list(read_manifest(packed)), cuts)


def test_a_damaged_end_keeps_what_came_before(cuts: list[Cut], tmp_path: Path) -> None:
    (shard,) = write_shards(cuts, tmp_path / "shards", size=100)
    data = shard.read_bytes()
    Path(index_path(str(shard))).unlink()
    shard.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="damaged"):
        list(read_manifest(shard))
    refused: list[tuple[str, str]] = []
    found = list(read_manifest(shard, on_error=lambda n, r: refused.append((n, r))))
    check_same(found, cuts[: len(found)])
    assert 0 < len(found) < COUNT and refused


def test_a_shorter_tar_than_its_index_is_noticed(cuts: list[Cut], tmp_path: Path) -> None:
    (shard,) = write_shards(cuts, tmp_path / "shards", size=100)
    shard.write_bytes(shard.read_bytes()[:20_000])
    found = list(read_manifest(shard))
    np.testing.assert_array_equal(load(found[0], audio.read), load(cuts[0], audio.read))
    with pytest.raises(InputError, match=r"ends inside the \d+ bytes"):
        load(found[-1], audio.read)


def test_broken_recordings_are_passed_over(cuts: list[Cut], tmp_path: Path) -> None:
    Path(cuts[2].recording.source).unlink()
    Path(cuts[4].recording.source).write_bytes(b"")
    with pytest.raises(InputError, match="utt2: .*no such file"):
        write_shards(cuts, tmp_path / "none")
    assert not list((tmp_path / "none").iterdir())
    refused: list[str] = []
    shards = write_shards(cuts, tmp_path / "some", on_error=lambda n, _: refused.append(n))
    assert refused == ["utt2", "utt4"] and list(shards.values()) == [COUNT - 2]


def test_parts_need_an_encoding(cuts: list[Cut], tmp_path: Path) -> None:
    lines = [{"id": "p", "path": "utt0.wav", "start": 0.1, "duration": 0.2, "text": "x"}]
    write_tsv(tmp_path / "parts.tsv", lines)
    parts = list(read_manifest(tmp_path / "parts.tsv"))
    with pytest.raises(InputError, match="is part of a recording"):
        write_shards(parts, tmp_path / "kept")

    def encode(cut: Cut) -> tuple[str, bytes]:
        target = io.BytesIO()
        audio.write(target, load(cut, audio.read, rate=RATE), RATE, format="flac")
        return "flac", target.getvalue()

    write_shards(parts, tmp_path / "cut", encode=encode)
    (found,) = read_manifest(tmp_path / "cut")
    assert found.duration == pytest.approx(0.2) and found.start == 0.0
    np.testing.assert_allclose(load(found, audio.read), load(parts[0], audio.read), atol=1e-4)


def test_foreign_tars(tmp_path: Path) -> None:
    """json beside the audio, folders and other files inside, members without audio."""
    target = io.BytesIO()
    soundfile.write(target, np.zeros(800), RATE, format="WAV")
    members = {
        "d/": b"", "d/x.wav": target.getvalue(), "d/x.json": b'{"text": "hi", "speaker": "q"}',
        "README": b"?", "lonely.txt": b"no audio",
    }  # fmt: skip
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    refused: list[tuple[str, str]] = []
    (cut,) = read_manifest(tmp_path / "t.tar", on_error=lambda n, r: refused.append((n, r)))
    assert (cut.id, cut.text, cut.speaker, cut.duration) == ("d/x", "hi", "q", 0.1)
    assert refused == [(f"{tmp_path}/t.tar:lonely", "has no audio")]
