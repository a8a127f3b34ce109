"""`mynah transcribe` with the flags that users of whisper and its offspring know.

Every flag of their help is run on a tiny random model: it is honoured, or refused with one line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., tuple[int, str, str]]

# flag: values that are honoured
WHISPER: dict[str, list[str]] = {
    "--model_dir": [],  # a test of its own
    "--device": ["cpu"],
    "--output_dir": ["OUT"],
    "--output_format": ["txt", "vtt", "srt", "tsv", "json", "all"],
    "--verbose": ["True", "False"],
    "--task": ["transcribe", "translate"],
    "--language": ["de", "German", "Chinese", "Mandarin", "english", "中文", "英语"],
    "--temperature": ["0", "0.3", "1.5"],
    "--best_of": ["2", "None"],
    "--beam_size": ["2", "None"],
    "--patience": ["2.0"],
    "--length_penalty": ["0.5", "None"],
    "--suppress_tokens": ["-1", "", "-1,7,8", "3,4"],
    "--initial_prompt": ["the cat"],
    "--carry_initial_prompt": ["False"],
    "--condition_on_previous_text": ["True", "False"],
    "--fp16": ["False", "True"],
    "--temperature_increment_on_fallback": ["0.5", "None"],
    "--compression_ratio_threshold": ["2.4", "None"],
    "--logprob_threshold": ["-1.0", "None"],
    "--no_speech_threshold": ["0.6", "None"],
    "--word_timestamps": ["True", "False"],
    "--prepend_punctuations": ["\"'“¿([{-"],
    "--append_punctuations": ["\"'.。,，!！?？:：”)]}、"],
    "--highlight_words": ["False"],
    "--max_line_width": ["None"],
    "--max_line_count": ["None"],
    "--max_words_per_line": ["None"],
    "--threads": ["0", "1", "None"],
    "--clip_timestamps": ["0", "0,0.5", "0.2,0.8,1.0"],
    "--hallucination_silence_threshold": ["None"],
}
CTRANSLATE2: dict[str, list[str]] = {
    "--model_directory": [],
    "--local_files_only": ["True", "False"],
    "--pretty_json": ["True", "False"],
    "--print_colors": ["False"],
    "--device_index": ["0"],
    "--compute_type": ["default", "auto", "int8", "int8_float32", "float32"],
    "--prompt_reset_on_temperature": ["0.5"],
    "--prefix": ["the"],
    "--suppress_blank": ["True", "False"],
    "--repetition_penalty": ["1.2"],
    "--no_repeat_ngram_size": ["3"],
    "--hotwords": ["cat, hat"],
    "--batched": ["True", "False"],
    "--batch_size": ["2"],
    "--multilingual": [],  # without --language, a test of its own
    "--vad_filter": ["True", "False"],
    "--vad_threshold": ["0.4"],
    "--vad_min_speech_duration_ms": ["100"],
    "--vad_max_speech_duration_s": ["20"],
    "--vad_min_silence_duration_ms": ["500"],
    "--hf_token": [""],
    "--speaker_name": ["Voice"],
    "--speaker_num": ["None"],
    "--live_transcribe": ["False"],
    "--live_volume_threshold": [],
    "--live_input_device": [],
    "--live_input_device_sample_rate": [],
}
# options of faster-whisper's transcribe, by their names in Python
FASTER: dict[str, list[str]] = {
    "--without_timestamps": ["True"],
    "--max_initial_timestamp": ["0.5"],
    "--max_new_tokens": ["5"],
    "--chunk_length": ["20"],
    "--language_detection_threshold": [],
    "--language_detection_segments": [],
    "--vad_neg_threshold": ["0.2"],
    "--vad_speech_pad_ms": ["200"],
}
# what a flag acts beside
BESIDE = {
    "--best_of": ["--temperature", "0.2"],
    "--patience": ["--beam_size", "2"],
    "--length_penalty": ["--beam_size", "2"],
    "--pretty_json": ["--output_format", "json"],
    "--speaker_name": ["--diarization", "x.rttm"],
}
REFUSED = [
    ("--compute_type", "float16", "fp16 is for a GPU"),
    ("--compute_type", "int16", "--compute-type: 'int16' cannot be honoured"),
    ("--live_transcribe", "True", "use mynah listen"),
    ("--live_volume_threshold", "0.2", "use mynah listen"),
    ("--live_input_device", "3", "use mynah listen --microphone"),
    ("--live_input_device_sample_rate", "16000", "use mynah listen"),
    ("--hf_token", "x", "--diarization takes an RTTM file"),
    ("--speaker_num", "2", "--diarization takes an RTTM file"),
    ("--print_colors", "True", "use --words"),
    ("--max_line_width", "20", "--max-line-width: needs --word-timestamps True"),
    ("--highlight_words", "True", "--highlight-words: needs --word-timestamps True"),
    ("--hallucination_silence_threshold", "2", "needs word_timestamps"),
    ("--carry_initial_prompt", "True", "there is no initial_prompt"),
    ("--hotwords", "cat=3.5, hat", "'cat=3.5': whisper-tiny takes them as a prompt, which has no"),
    ("--beam_size", "0", "--beam-size: 0 is not in 1..100"),
    ("--language", "Klingon", "language: 'Klingon' is not known"),
    ("--language", "fr", "does not know 'fr'"),
    ("--task", "sing", "--task: 'sing' is none of transcribe, translate"),
    ("--suppress_tokens", "99999", "suppress_tokens: 99999"),
    ("--clip_timestamps", "3,1", "an end is not after its start"),
    ("--languages", "en", "'en' is asked for, so none is detected"),
    ("--align_model", "mynah-en", "needs --word-timestamps ctc"),
    ("--method", "greedy", "--method: not with"),
    ("--lm", "x.arpa", "--lm: not with"),
    ("--beam", "3", "--beam: not with"),
    ("--set", "blank_skip=1", "--set: not with"),
    ("--batch", "2", "--batch: a Whisper model has --batched"),
    ("--format", "srt", "--output-format: --format is the same"),
]  # fmt: skip


TURN = "SPEAKER any 1 0 9 <NA> <NA> SPEAKER_00 <NA> <NA>\n"

ALL = {**WHISPER, **CTRANSLATE2, **FASTER}


@pytest.mark.parametrize("flag", ALL)
def test_every_flag(call: Call, flag: str, tmp_path: Path) -> None:
    spellings = [flag, flag.replace("_", "-")]
    Path("x.rttm").write_text(TURN, encoding="utf-8")
    for number, value in enumerate(ALL[flag]):
        value = str(tmp_path / "out") if value == "OUT" else value
        more = BESIDE.get(flag, [])
        more = more if "format" in f"{flag} {more}" else [*more, "--output_format", "srt"]
        code, _, err = call(spellings[number % 2], value, *more)
        assert code == 0, f"{flag} {value}: {err}"


@pytest.mark.parametrize(("flag", "value", "said"), REFUSED)
def test_what_cannot_be_done_is_refused_with_one_line(
    call: Call, flag: str, value: str, said: str, tmp_path: Path
) -> None:
    code, out, err = call(flag, value, "--output_format", "all")
    lines = err.strip().splitlines()
    assert (code, out, len(lines)) == (2, "", 1), err
    assert said in lines[0]
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_the_lists_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    transcribe = pytest.importorskip("whisper.transcribe")
    module = sys.modules["whisper.transcribe"] if callable(transcribe) else transcribe
    found: list[argparse.ArgumentParser] = []

    def caught(self: argparse.ArgumentParser, *args: Any, **more: Any) -> argparse.Namespace:
        found.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", caught)
    with pytest.raises(KeyboardInterrupt):
        module.cli()
    flags = {a.option_strings[0] for a in found[0]._actions if a.option_strings} - {"-h"}
    assert flags - {"--model", "--help"} == set(WHISPER)
    for action in found[0]._actions:
        # what is given is theirs, so that "honoured" means something
        for value in WHISPER.get((action.option_strings or [""])[0], []):
            if value not in ("OUT", "Mandarin", "english", "中文", "英语"):
                assert action.choices is None or value in action.choices, (action.dest, value)
