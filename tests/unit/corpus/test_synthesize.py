from __future__ import annotations

import argparse
import lzma
import os
import shutil
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mynah.cli import data_synthesize, main
from mynah.corpus.prompt_text import (
    comparable_text,
    cut_phrases,
    read_sentences,
    spoken_text,
    written_for,
)
from mynah.corpus.synthesize import (
    MANDARIN_VOICES,
    Prompts,
    SynthesisConfig,
    render,
    synthesize,
)
from mynah.errors import ConfigError, InputError, MynahError

SENTENCES = [f"The {a} {b} sings." for a in ("old", "red", "tall") for b in ("man", "bird", "king")]
SENTENCES += [f"Then the {a} walked down to the river and sat under a tree." for a in "abcdefgh"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for the programs: a tone, and a line in a log for each call."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tone = np.sin(np.arange(32000) * 0.05).astype(np.float32)
    soundfile.write(str(folder / "tone.wav"), tone, 16000)
    script = f"""#!/bin/sh
echo "$0 $*" >> {folder}/log
for word; do case "$word" in *.wav) cp {folder}/tone.wav "$word";; esac; done
"""
    for name in ("flite", "text2wave", "espeak-ng"):
        (folder / name).write_text(script)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("“It's late,” she said—'go home.'", "it's late she said go home"),
        ("I shall, O king!", "i shall o king"),
        ("It was 7 o'clock.", None),
        ("Mr. Brown left.", None),
        ("The BBC said so.", None),
        ("Plan B failed.", None),
        ("A café.", None),
        ("...", None),
    ],
)
def test_spoken_text_refuses_what_can_be_read_in_two_ways(sentence: str, text: str | None) -> None:
    assert spoken_text(sentence) == text


def test_sentences_are_selected_once_and_without_the_excluded(tmp_path: Path) -> None:
    lines = "# a title\nOne bird sings.\nOne bird sings!\nTwo BIRDS sing.\nShe is here.\nNo.\n"
    for name, opener in (("t.txt", open), ("t.txt.xz", lzma.open)):
        with opener(tmp_path / name, "wt", encoding="utf-8") as file:
            file.write(lines)
        assert read_sentences(tmp_path / name, exclude=["she is here"]) == ["One bird sings."]
    with pytest.raises(InputError, match="no usable sentence"):
        read_sentences(tmp_path / "t.txt", min_words=9)
    with pytest.raises(InputError, match=r"absent\.txt"):
        read_sentences(tmp_path / "absent.txt")


def test_phrases_are_short_runs_of_words_and_not_the_excluded() -> None:
    phrases = cut_phrases(SENTENCES * 20, 2, seed=1, exclude=["bird sings"])
    assert phrases == cut_phrases(SENTENCES * 20, 2, seed=1, exclude=["bird sings"])
    assert len(set(phrases)) == len(phrases) > 20
    assert {len(p.split()) for p in phrases} == {1, 2}
    running = [f" {comparable_text(s)} " for s in SENTENCES]
    assert all(any(f" {p.lower()} " in s for s in running) for p in phrases)
    assert "bird sings" not in phrases and "king sings" in phrases
    assert "here I" in cut_phrases(["Here I am."] * 40, 2, seed=1)


def test_prompts_depend_on_seed_and_index_alone_and_do_not_repeat() -> None:
    config = SynthesisConfig(seed=3, count=16, short_words=5)
    prompts, again = Prompts(SENTENCES, config), Prompts(SENTENCES, config)
    assert prompts[7] == again[7]
    drawn = [prompts[i] for i in range(16)]
    assert len({p.sentence for p in drawn}) == 16
    assert sum(len(p.sentence.split()) <= 5 for p in drawn) == 8
    assert {p.voice.split(":")[0] for p in drawn} == {"flite", "espeak"}
    third = SynthesisConfig(seed=3, count=300, voices=("flite:a", "festival:b", "espeak:c"))
    names = [Prompts(SENTENCES, third)[i].voice for i in range(300)]
    assert [round(names.count(v) / 300, 1) for v in third.voices] == [0.5, 0.2, 0.3]
    other = Prompts(SENTENCES, SynthesisConfig(seed=4, count=16, short_words=5))
    assert [other[i] for i in range(16)] != drawn


def test_a_corpus_is_the_same_for_any_jobs_and_is_resumed(programs: Path, tmp_path: Path) -> None:
    config = SynthesisConfig(seed=1, count=6, short_words=5)
    seen: list[int] = []
    items, hours = synthesize(
        SENTENCES, tmp_path / "a", config, progress=lambda n, _: seen.append(n)
    )
    synthesize(SENTENCES, tmp_path / "b", config, jobs=3)
    manifest = (tmp_path / "a" / "manifest.tsv").read_text()
    assert manifest == (tmp_path / "b" / "manifest.tsv").read_text()
    rows = [line.split("\t") for line in manifest.splitlines()]
    assert rows[0] == ["id", "path", "speaker", "duration", "text", "split"]
    assert items == len(rows) - 1 == 6 and seen == [1, 2, 3, 4, 5, 6]
    assert hours == pytest.approx(sum(float(row[3]) for row in rows[1:]) / 3600, rel=1e-4)
    info = soundfile.info(str(tmp_path / "a" / rows[1][1]))
    assert (info.samplerate, info.channels) == (16000, 1)
    assert info.duration == pytest.approx(float(rows[1][3]), abs=1e-4)

    calls = len((programs / "log").read_text().splitlines())
    (tmp_path / "a" / rows[3][1]).unlink()
    synthesize(SENTENCES, tmp_path / "a", config)
    assert len((programs / "log").read_text().splitlines()) == calls + 1
    assert (tmp_path / "a" / "manifest.tsv").read_text() == manifest
    more = replace(config, count=7, split="dev")  # of the same, and listed otherwise
    assert synthesize(SENTENCES, tmp_path / "a", more)[0] == 7
    for other in (replace(config, seed=2), replace(config, voices=("flite:slt",))):
        with pytest.raises(MynahError, match="holds items of other sentences or settings"):
            synthesize(SENTENCES, tmp_path / "a", other)
    with pytest.raises(MynahError, match="holds items of other sentences or settings"):
        synthesize(SENTENCES[1:], tmp_path / "a", config)


def test_hours_end_the_run_and_long_items_are_left_out(programs: Path, tmp_path: Path) -> None:
    items, hours = synthesize(SENTENCES, tmp_path / "a", SynthesisConfig(hours=0.002), jobs=2)
    assert hours >= 0.002 > hours * (items - 1) / items
    assert synthesize(SENTENCES, tmp_path / "b", SynthesisConfig(count=3, max_seconds=1.0))[0] == 0


def test_a_missing_or_failing_program_gives_one_line(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "flite").write_text("#!/bin/sh\necho no such voice >&2\nexit 3\n")
    config = SynthesisConfig(count=40, voices=("flite:nobody",))
    with pytest.raises(MynahError, match=r"^flite: no such voice$"):
        synthesize(SENTENCES, tmp_path / "a", config)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MynahError, match="flite: not installed"):
        synthesize(SENTENCES, tmp_path / "a", config)


def test_a_full_disk_ends_the_run_in_one_line(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file = os.replace

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".flac":
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"\.flac: cannot be written \(No space left on device"):
        synthesize(SENTENCES, tmp_path / "a", SynthesisConfig(count=3))
    assert not list((tmp_path / "a").rglob("*.part"))


def test_wrong_settings_are_named() -> None:
    for hours in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="count or hours"):
            SynthesisConfig(hours=hours)
    with pytest.raises(ConfigError, match="mary:x"):
        SynthesisConfig(count=1, voices=("mary:x",))
    with pytest.raises(ConfigError, match="shares: nothing for flite:slt"):
        SynthesisConfig(count=1, voices=("flite:slt",), shares={"espeak": 1.0})


def test_the_verb(programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, manifest = tmp_path / "text.txt", tmp_path / "test.tsv"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    manifest.write_text("id\ttext\nx\tTHE OLD MAN SINGS\n", encoding="utf-8")
    parser = argparse.ArgumentParser()
    data_synthesize.add_synthesize_arguments(parser)
    out = tmp_path / "out"
    arguments = [str(text), "--out", str(out), "--count", "16", "--exclude", str(manifest)]
    assert data_synthesize.run_synthesize(parser.parse_args(arguments)) == 0
    assert "16 items" in capsys.readouterr().out
    assert "the old man sings" not in (out / "manifest.tsv").read_text()
    assert comparable_text("THE OLD MAN SINGS") == "the old man sings"


@pytest.mark.parametrize(
    ("program", "voice"),
    [
        ("flite", "flite:slt"),
        ("text2wave", "festival:kal_diphone"),
        ("espeak-ng", "espeak:en-us+f2"),
    ],
)
def test_the_real_programs(program: str, voice: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    folder = Path("/usr/share/festival/voices/english/kal_diphone")
    if voice.startswith("festival") and not folder.is_dir():
        pytest.skip("festival's voice kal_diphone is not installed")
    prompts = Prompts(SENTENCES, SynthesisConfig(count=1, voices=(voice,)))
    samples = render(prompts[0])
    assert samples.dtype == np.float32 and 0.5 < len(samples) / 16000 < 8
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(samples, render(prompts[0]))


def test_what_festival_is_told(programs: Path) -> None:
    config = SynthesisConfig(count=1, voices=("festival:us_hts", "festival:kal"))
    prompts = Prompts(SENTENCES, config)
    for index in range(8):
        render(prompts[index])
    told = (programs / "log").read_text()
    assert "(voice_us_hts) (Parameter.set 'Duration_Stretch " in told and '("-fm" ' in told
    assert "(voice_kal) " in told and "target_f0_mean" in told
    with pytest.raises(MynahError, match="no name of a voice"):
        render(replace(prompts[0], voice="festival:kal) (exit"))


def test_mandarin_is_hanzi_read_as_pinyin(tmp_path: Path) -> None:
    pytest.importorskip("pypinyin")
    from mynah.text.pinyin import syllables

    assert spoken_text("你好，世界！", "zh") == "你好世界"
    for line in ("有7个", "打开Maps", "，。", "Hello", "你好%"):
        assert spoken_text(line, "zh") is None
    assert comparable_text("打开 Maps，好", "zh") == "打开好"
    said = written_for("你好，世界！", partial(syllables, sandhi=True))
    assert said == "ni2 hao3 ,  shi4 jie4"
    text = tmp_path / "t.txt"
    text.write_text("你好，世界！\n你好世界\n他走了。\n走\n有7个\n", "utf-8")
    assert read_sentences(text, exclude=["他走了"], language="zh") == ["你好，世界！"]
    phrases = cut_phrases(["天地玄黄宇宙洪荒"] * 30, 3, seed=1, language="zh")
    assert all(len(p) <= 3 and p in "天地玄黄宇宙洪荒" for p in phrases) and len(phrases) > 5
    config = SynthesisConfig(count=4, language="zh", short_words=4, voices=MANDARIN_VOICES)
    prompt = Prompts(["天地玄黄宇宙洪荒", "你好世界"], config)[1]
    assert prompt.sentence == "你好世界" and prompt.voice.startswith("espeak:cmn-latn-pinyin+")
    with pytest.raises(ConfigError, match="'xx' is none of en, zh"):
        SynthesisConfig(count=1, language="xx")


def test_the_command_in_mandarin(programs: Path, tmp_path: Path) -> None:
    pytest.importorskip("pypinyin")
    (tmp_path / "t.txt").write_text("你好，世界！\n他们去北京大学。\n", "utf-8")
    out = tmp_path / "zh"
    arguments = ["data", "synthesize", str(tmp_path / "t.txt"), "--language", "zh", "--out"]
    assert main([*arguments, str(out), "--count", "2"]) == 0
    rows = [line.split("\t") for line in (out / "manifest.tsv").read_text("utf-8").splitlines()]
    assert {row[4] for row in rows[1:]} == {"你好世界", "他们去北京大学"}
    assert "espeak-ng -v cmn-latn-pinyin" in (programs / "log").read_text()


def test_the_time_left_is_that_of_the_last_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on finds nine tenths in two seconds; the rest takes a second an item."""
    now = [0.0]
    monkeypatch.setattr(data_synthesize.time, "monotonic", lambda: now[0])
    show = data_synthesize._Progress(0.0, 1200)
    now[0] = 2.0
    show(1000, 1.0)
    for item in range(1001, 1101):
        now[0] += 1.0
        show(item, 1.0)
    lines = capsys.readouterr().err.replace("\r", "").splitlines()
    assert lines[0].strip() == "1000 items, 1.00 h, 0 min left"
    assert lines[-1].strip() == "1100 items, 1.00 h, 2 min left"
    assert len(lines) == 101
