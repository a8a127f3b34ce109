"""`mynah transcribe` with a Whisper: files, words, speakers, languages, refusals."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.tone_model import RATE, speak

from mynah.audio import write
from mynah.cli import main
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.recognizer import Recognizer
from mynah.runtime.result import Suspicion, Transcript

Call = Callable[..., tuple[int, str, str]]

TURN = "SPEAKER any 1 0 9 <NA> <NA> SPEAKER_00 <NA> <NA>\n"


def test_fp16_is_for_a_gpu(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    assert call("--fp16", "True")[0] == 0
    assert "--fp16 True: is for a GPU" in caplog.text
    code, _, err = call("--fp16", "True", "--device", "cuda", "--engine", "torch")
    assert (code, "cuda" in err) == (2, True)


def test_fp16_false_runs_what_there_is(call: Call, models: Path, tmp_path: Path) -> None:
    whole, small = models / "whisper-tiny", tmp_path / "int8"
    import_whisper(models / "hf", small)  # int8 alone, as imported where nothing is asked
    for folder in (whole, small):
        code, out, err = call("--fp16", "False", "--model", str(folder))
        assert code == 0 and out, err
    code, _, err = call("--compute_type", "float32", "--model", str(small))
    assert code == 2 and "has graphs in int8 alone, not in fp32; mynah import" in err
    code, _, err = call("--fp16", "False", "--precision", "bf16")
    assert code == 2 and "--fp16 False: --precision says 'bf16'" in err


def test_a_language_that_is_to_be_detected(call: Call) -> None:
    assert call("--language", "auto")[:2] == call("--language", "None")[:2]


def test_what_files_have_no_place_for_is_said(
    call: Call, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mynah.runtime.whisper.transcribe.guarded", lambda segments, *_: (
        [], [Suspicion(one.text, one.start, one.end, "no_speech", True) for one in segments]
    ))  # fmt: skip
    assert call("--hotwords", "bird " * 300)[0] in (0, 2)
    assert "seems to say left out; JSON lists them" in caplog.text
    assert "no room for all hotwords" in caplog.text
    assert "initial prompt" not in caplog.text
    caplog.clear()
    assert call("--initial_prompt", "bird " * 300)[0] in (0, 2)
    assert "no room for the whole initial prompt" in caplog.text
    assert "hotwords" not in caplog.text
    caplog.clear()
    call("--output_format", "json")
    assert "left out" not in caplog.text


def test_beams_need_a_temperature_of_0(call: Call) -> None:
    code, _, err = call("--beam_size", "3", "--temperature", "0.5")
    assert code == 2 and "--beam-size: there is no temperature of 0" in err
    more = ("--temperature", "0.5", "--patience", "2")
    code, _, err = call("--beam_size", "5", *more)
    assert code == 2 and "--patience: there is no beam" in err


def test_json_on_one_line(call: Call, tmp_path: Path) -> None:
    texts = []
    for value in ("True", "False"):
        assert call("--output_format", "json", "--pretty_json", value)[0] == 0
        (file,) = tmp_path.glob("*.json")
        texts.append(file.read_text("utf-8"))
    pretty, plain = texts
    assert pretty.count("\n") > 5 and plain.count("\n") == 1
    assert json.loads(pretty) == json.loads(plain)


def test_all_files_as_whisper_writes_them(call: Call, tmp_path: Path, recording: Path) -> None:
    out = tmp_path / "out"
    assert (
        call("-f", "all", "-o", str(out), "--word_timestamps", "True", "--vad_filter", "False")[0]
        == 0
    )
    assert {p.name for p in out.iterdir()} == {f"talk.{k}" for k in ("txt", "vtt", "srt", "tsv",
                                                                    "json")}  # fmt: skip
    assert (out / "talk.tsv").read_text("utf-8").startswith("start\tend\ttext\n")
    found = json.loads((out / "talk.json").read_text("utf-8"))
    assert found["language"] == "en" and found["segments"][0]["seek"] == 0
    for number, segment in enumerate(found["segments"]):
        assert segment["id"] == number and segment["tokens"] and segment["seek"] % 1 == 0
        assert "".join(word["word"] for word in segment["words"]) == segment["text"]
        assert {"temperature", "avg_logprob", "compression_ratio", "no_speech_prob"} <= {*segment}
    assert not list(tmp_path.glob("*.srt"))
    assert call("--output_format", "srt")[0] == 0  # into the current folder, as whisper does
    assert (tmp_path / "talk.srt").is_file()


def test_recordings_side_by_side(call: Call, recording: Path, tmp_path: Path) -> None:
    others = [tmp_path / f"{name}.flac" for name in "ab"]
    others[0].write_bytes(recording.read_bytes())
    others[1].write_bytes(recording.read_bytes()[:2000])  # breaks off
    for size, out in (([], "one"), (["--batch-size", "3"], "together")):
        code, _, err = call(*map(str, others), *size, "-f", "srt", "-o", str(tmp_path / out))
        assert code == 1 and "b.flac" in err
    files = [sorted((tmp_path / out).glob("*.srt")) for out in ("one", "together")]
    assert [file.name for file in files[0]] == ["a.srt", "talk.srt"]
    assert [file.read_text("utf-8") for file in files[0]] == [
        file.read_text("utf-8") for file in files[1]
    ]


def test_without_times_of_words(call: Call) -> None:
    code, out, _ = call("--format", "json", "--word_timestamps", "False")
    assert code == 0
    assert not Transcript.from_json(out).words
    code, out, _ = call("--format", "json", "--beam_size", "2")
    assert Transcript.from_json(out).words


def test_aligned_words(call: Call, models: Path) -> None:
    code, out, err = call("--word-timestamps", "ctc", "--align-model", str(models / "tones"),
                          "--format", "json")  # fmt: skip
    assert code == 0, err
    assert {w.source for w in Transcript.from_json(out).words} <= {"aligned", "attention"}
    code, _, err = call("--word-timestamps", "ctc", "--align-model", str(models / "tones"),
                        "--language", "de")  # fmt: skip
    assert (code, len(err.splitlines())) == (2, 1)
    assert "the aligner tones knows en, not de" in err


def test_the_script_of_chinese(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    dots = type("Dots", (), {"convert": lambda self, text: "." * len(text)})()
    monkeypatch.setattr("mynah.text.script._converter", lambda name: dots)
    flags = ("--script", "simplified", "--format", "json", "--word_timestamps", "True")
    for language in ("zh", "de"):
        code, out, err = call(*flags, "--languages", language, language=False)
        assert code == 0, err
        found = Transcript.from_json(out)
        for text in (found.text, *(word.text for word in found.words)):
            assert text and (set(text) == {"."}) == (language == "zh")
    code, _, err = call("--script", "simplified", model="tones")
    assert code == 2 and "script: 'en' is not written" in err


def test_languages_are_detected(call: Call) -> None:
    code, out, err = call("--format", "json", language=False)
    assert code == 0, err
    assert Transcript.from_json(out).text
    assert Transcript.from_json(out).language in ("en", "zh", "de")
    for flags in (["--languages", "German,zh"], ["--multilingual", "True"], ["--multilingual"],
                  ["--language_detection_threshold", "None"],
                  ["--language_detection_segments", "2"]):  # fmt: skip
        code, out, err = call("--format", "json", *flags, language=False)
        assert code == 0, err
        if "--languages" in flags:
            assert Transcript.from_json(out).language in ("zh", "de")


def test_layout_and_words(call: Call, tmp_path: Path) -> None:
    code, _, err = call("--output_format", "srt", "--word_timestamps", "True",
                        "--max_line_width", "8", "--max_line_count", "1", "--highlight_words",
                        "True")  # fmt: skip
    assert code == 0, err
    text = (tmp_path / "talk.srt").read_text("utf-8")
    assert "<u>" in text


def test_what_goes_to_files_is_shown(call: Call) -> None:
    code, out, err = call("--output_format", "srt", "--verbose", "True", model="tones")
    assert code == 0, err
    assert re.fullmatch(r"\[00:00\.\d\d\d --> 00:02\.\d\d\d\]  abc de\n", out)
    for flags in ([], ["--verbose", "False"]):
        code, out, err = call("--output_format", "srt", *flags, model="tones")
        assert (code, out) == (0, "")


def test_speakers(call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "x.rttm").write_text(TURN, encoding="utf-8")
    code, out, err = call("--format", "json", "--diarization", "x.rttm", "--speaker_name", "Ann")
    assert code == 0, err
    words = Transcript.from_json(out).words
    assert {word.speaker for word in words} == {"Ann_00"}
    code, out, err = call("--diarization", "x.rttm", "--speaker_name", "SPEAKER", model="tones")
    assert (code, out) == (0, "[SPEAKER_00]: abc de\n")
    assert not caplog.messages  # one is called so, whatever it is renamed to
    (tmp_path / "y.rttm").write_text(TURN.replace("SPEAKER_00", "Bob"), encoding="utf-8")
    code, out, err = call("--diarization", "y.rttm", "--speaker_name", "Ann", model="tones")
    assert (code, out) == (0, "[Bob]: abc de\n")
    assert "no speaker is called SPEAKER, --speaker-name renames none" in caplog.text
    code, out, err = call("--diarization", "x.rttm", model="tones")
    assert (code, out) == (0, "[SPEAKER_00]: abc de\n")
    (tmp_path / "talk.rttm").write_bytes((tmp_path / "x.rttm").read_bytes())
    assert call("--diarization", ".", model="tones")[1] == "[SPEAKER_00]: abc de\n"
    code, _, err = call("--diarization", "none.rttm", model="tones")
    assert (code, len(err.splitlines())) == (2, 1)


def test_who_has_no_speakers_is_not_heard_first(
    models: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(tones.read_bytes())
    (tmp_path / "who").mkdir()
    (tmp_path / "who" / "b.rttm").write_text(TURN, encoding="utf-8")
    heard: list[list[str]] = []
    transcribe_all = Recognizer.transcribe_all
    monkeypatch.setattr(Recognizer, "transcribe_all", lambda self, names, *more, **rest: (
        heard.append(names) or transcribe_all(self, names, *more, **rest)
    ))  # fmt: skip
    files = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    code = main(["transcribe", *files, "--model", str(models / "tones"), "--quiet",
                 "--diarization", str(tmp_path / "who"),
                 "--output-dir", str(tmp_path)])  # fmt: skip
    err = capsys.readouterr().err
    assert (code, heard) == (1, [files[1:]])
    assert "a.rttm: No such file" in err
    assert (tmp_path / "b.txt").read_text("utf-8") == "[SPEAKER_00]: abc de\n"


def test_no_times_of_words_are_none(call: Call, tmp_path: Path) -> None:
    for flags in (("--words",), ("--highlight_words", "True", "--format", "srt")):
        code, out, err = call("--word_timestamps", "False", *flags)
        assert (code, out) == (2, "") and "needs --word-timestamps True" in err
    (tmp_path / "x.rttm").write_text(TURN, encoding="utf-8")
    code, out, err = call(
        "--word_timestamps", "False", "--diarization", "x.rttm", "--format", "json"
    )
    found = Transcript.from_json(out)
    assert code == 0 and not found.words and found.segments[0].speaker == "SPEAKER_00"


def test_whispers_json_says_where_times_come_from(call: Call, tmp_path: Path) -> None:
    assert call("--output_format", "json", "--word_timestamps", "True", "--multilingual", "True",
                language=False)[0] == 0  # fmt: skip
    (segment, *_) = json.loads(Path("talk.json").read_text("utf-8"))["segments"]
    assert {word["source"] for word in segment["words"]} == {"attention"}
    assert segment["language"]


def test_a_model_by_its_folder(call: Call, models: Path, capsys: pytest.CaptureFixture[str],
                               recording: Path) -> None:  # fmt: skip
    base = ["transcribe", str(recording), "--language", "en", "--max_new_tokens", "4",
            "--beam_size", "1", "--temperature_increment_on_fallback", "None"]  # fmt: skip
    for name in ("tiny", "whisper-tiny", "openai/whisper-tiny"):
        assert main([*base, "--model", name, "--model_dir", str(models)]) == 0
    assert main([*base, "--model_directory", str(models / "whisper-tiny")]) == 0
    capsys.readouterr()
    assert main([*base, "--model", "large-v3", "--model_dir", str(models)]) == 2
    err = capsys.readouterr().err
    assert "mynah import whisper hf:openai/whisper-large-v3" in err
    assert len(err.splitlines()) == 1


def test_another_family_has_no_such_flags(call: Call) -> None:
    code, out, err = call("--beam_size", "3", "--word_timestamps", "True", model="tones")
    assert (code, out) == (2, "")
    assert err == ("mynah transcribe: --beam-size, --word-timestamps: only for Whisper models, "
                   "and tones is none\n")  # fmt: skip
    # those that mean the same for every model are for every model
    code, _, err = call("--output_format", "srt", "--verbose", "False", "--threads", "0",
                        "--max_line_width", "20", model="tones")  # fmt: skip
    assert (code, err) == (0, "")
    assert Path("talk.srt").read_text("utf-8").startswith("1\n00:00:00,")


def test_other_verbs(models: Path, recording: Path, capsys: pytest.CaptureFixture[str],
                     tmp_path: Path) -> None:  # fmt: skip
    tiny = str(models / "whisper-tiny")
    (tmp_path / "text.txt").write_text("abc")
    assert main(["align", str(recording), str(tmp_path / "text.txt"), "--model", tiny]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "a Whisper model hears whole windows" in err
    assert main(["models", tiny]) == 0
    assert "whisper" in capsys.readouterr().out
    (tmp_path / "set.tsv").write_text(f"id\tpath\ttext\nx\t{recording}\tabc de\n", "utf-8")
    code = main(["evaluate", str(tmp_path / "set.tsv"), "--model", tiny, "--language", "en",
                 "--beam_size", "1", "--temperature_increment_on_fallback", "None",
                 "--max_new_tokens", "4", "--short_context", "True",
                 "--json", str(tmp_path / "r.json")])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    said = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert said["method"] == "greedy, short context"
    assert "onnx" in said["engine"]


def test_evaluate_by_a_short_name_and_without_a_language(
    models: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(models / "whisper-tiny", tmp_path / "home" / "models" / "whisper-tiny")
    monkeypatch.setenv("MYNAH_HOME", str(tmp_path / "home"))
    write(tmp_path / "a.wav", speak("abc"), RATE)
    rows = [("x", "Ääb cd", "de"), ("y", "二百", "Mandarin")]
    lines = ["id\tpath\ttext\tlanguage", *(f"{i}\ta.wav\t{t}\t{code}" for i, t, code in rows)]
    (tmp_path / "set.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    command = ["evaluate", str(tmp_path / "set.tsv"), "--model", "tiny", "--beam_size", "1",
               "--temperature_increment_on_fallback", "None", "--max_new_tokens", "4",
               "--json", str(tmp_path / "r.json")]  # fmt: skip
    assert main([*command, "--record", "mine"]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert found["groups"]["all"]["total"] == 4, "two words and two characters"
    assert "mine" in (tmp_path / "home" / "models" / "whisper-tiny" / "model.toml").read_text()
    assert main([*command, "--language", "en"]) == 0
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert found["groups"]["all"]["total"] == 3, "all are taken for English"
    for task, total in (("transcribe", 4), ("translate", 3)):  # which is written in English
        assert main([*command, "--language", "zh", "--task", task]) == 0
        found = json.loads((tmp_path / "r.json").read_text("utf-8"))
        assert found["groups"]["all"]["total"] == total, task


def test_library(models: Path, recording: Path) -> None:
    import mynah
    from mynah.runtime.whisper.options import WhisperOptions

    recognizer = mynah.load(models / "whisper-tiny")
    quick = WhisperOptions(temperature=0.0, beam_size=1, max_new_tokens=4)
    samples = np.asarray(speak("abc"), np.float32)
    found = recognizer.transcribe(
        [recording, samples], mynah.Request(language="German", whisper=quick)
    )
    assert [one.language for one in found] == ["de", "de"]
    assert not found[0].words
    for request, said in (
        (mynah.Request(lm="x"), "lm: not with whisper-tiny"),
        (mynah.Request(method="greedy"), "method: not with"),
        (mynah.Request(chars=True), "chars: not with"),
        (mynah.Request(rescorer="nonsense"), "rescorer: not with"),
        (mynah.Request(words=False, whisper=WhisperOptions(word_timestamps=True)), "words: not wa"),
        (mynah.Request(whisper={"task": "translate"}), "is not WhisperOptions"),  # type: ignore
        (mynah.Request(hotwords=["a=1", "b"]), "'a=1': whisper-tiny takes them as a prompt"),
        (mynah.Request(second_look=True), "second_look: not with"),
        (mynah.Request(endpointing=mynah.Endpointing()), "endpointing: not with"),
        (mynah.Request(hotwords=["a=1", "b=2"], whisper=quick.replace(hotwords="x")), "hotwords"),
        (mynah.Request(punctuate=True), "punctuate: whisper-tiny knows several languages"),
        (mynah.Request(script="taiwan", language="de"), "script: 'de' is not written in Chinese"),
    ):
        with pytest.raises(mynah.ConfigError, match=said):
            recognizer.transcribe(samples, request)
    for values in ({"vad": 0.5}, {"language": ["en"]}, {"hotwords": [1, 2]}):
        with pytest.raises(mynah.ConfigError, match=next(iter(values))):
            mynah.Request(**values)  # type: ignore[arg-type]
    with pytest.raises(mynah.ConfigError, match="patience: there is no beam"):
        WhisperOptions(beam_size=1, patience=2.0)
    assert recognizer.whisper is not None and recognizer.whisper.language("auto") is None
    for start in (recognizer.stream, recognizer.batcher):
        with pytest.raises(mynah.ModelError, match="a Whisper model hears whole windows"):
            start()
    with pytest.raises(mynah.ConfigError, match="whisper: tones is no Whisper model"):
        mynah.load(models / "tones").transcribe(samples, mynah.Request(whisper=quick))
    bad = recognizer.transcribe_all([recording.with_name("none.wav"), samples],
                                    mynah.Request(language="en", whisper=quick))  # fmt: skip
    assert isinstance(bad[0], mynah.InputError)
    assert isinstance(bad[1], Transcript)
