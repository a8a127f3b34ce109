"""Options that cannot act are refused with one line, and absurd numbers too: in every verb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.tone_model import RATE, speak, write_tone_model
from tests.whisper_reference import DIMS, write_random

from mynah.audio import write
from mynah.cli import main
from mynah.decoding import DecodingOptions
from mynah.decoding.options import METHODS
from mynah.models.whisper.convert import import_whisper
from mynah.runtime.idle import Company, idle

Call = Callable[[str], tuple[int, str, str]]

# What is said without a look at any model: a command line, and a part of the line about it.
ALONE = {
    "transcribe talk.wav --hotword-weight 2": "--hotword-weight: needs --hotwords",
    "transcribe talk.wav --speaker-name Ann": "--speaker-name: needs --diarization",
    "transcribe talk.wav --model-dir .": "--model-dir: needs --model",
    "transcribe talk.wav --second-look": "--second-look: needs --live",
    "transcribe talk.wav --live --batch 2": "--batch: not with --live",
    "transcribe talk.wav --words --format json": "--words: none of the formats",
    "transcribe talk.wav --words --output_format tsv": "--words: none of the formats",
    "transcribe talk.wav --chars": "--chars: needs --format json or textgrid",
    "transcribe talk.wav --pretty-json False": "--pretty-json: needs --format json",
    "transcribe talk.wav --max-line-width 20": "--max-line-width: needs --format srt or vtt",
    "transcribe talk.wav --format srt --max-line-width 20 --max-words-per-line 3":
        "--max-words-per-line: not with --max-line-width",
    "transcribe talk.wav --format srt --max-line-count 1 --max-words-per-line 3":
        "--max-line-count: needs --max-line-width",
    "transcribe talk.wav --output_format srt --max_line_count 1":
        "--max-line-count: needs --max-line-width",
    "transcribe - --workers 2": "--workers: standard input is read by one process",
    "align talk.wav talk.txt --chars": "--chars: needs --format json or textgrid",
    "align talk.wav talk.txt --highlight-words": "--highlight-words: needs --format srt or vtt",
    "listen --hotword-weight 2": "--hotword-weight: needs --hotwords",
    "listen --json --words": "--words: JSON has the words already",
    "listen --pcm --microphone 1": "--microphone: not with --pcm",
    "evaluate set.tsv --hotword-weight 2": "--hotword-weight: needs --hotwords",
    "evaluate set.tsv --second-look": "--second-look: needs --live",
    "evaluate set.tsv --worst 3 --json -": "--worst: not with --json -",
    "evaluate set.tsv --calibrate --live": "--live: not with --calibrate",
    "evaluate set.tsv --calibrate --hotwords a": "--hotwords: not with --calibrate",
    "evaluate set.tsv --calibrate --vad-onset 0.4": "--vad-onset: not with --calibrate",
    "data label set.tsv --out a.tsv --hotword-weight 2": "--hotword-weight: needs --hotwords",
    "data label set.tsv --out a.tsv --second-look": "unrecognized arguments: --second-look",
    "lm ppl a.ngram a.txt --share 0.5": "--share: needs --neural",
    "lm train a.txt --out a.arpa --bits 4": "--bits: ARPA has none",
    "lm train a.txt --out a.ngram --vocab words.txt --min-count 2": "--min-count: not with a file",
    "lm prune a.ngram --out a.arpa.gz --threshold 1e-8 --mapped": "--mapped: ARPA has none",
    "lm convert a.ngram a.arpa --bits 8": "--bits: ARPA has none",
    "lexicon m out --tlg a b --ngram c": "--ngram: not with --tlg",
    "lexicon m out --tlg a b --rescorer c": "--rescorer: not with --tlg",
    "lexicon m out --rescorer c --graph": "--graph: needs --table, --words or --ngram",
    "export m out --prior-weight 0.5": "--prior-weight: needs --priors",
    "export m out --limit 5": "--limit: needs --priors",
    "export m out --precision fp32 --pack": "--pack: needs --precision int8",
    "import wenet m out --tokenizer a": "--tokenizer: not with wenet",
}  # fmt: skip
ABSURD = {
    "transcribe talk.wav --beam 100000": "argument --beam: 100000 is not in 1..1000",
    "transcribe talk.wav --batch 100000": "argument --batch: 100000 is not in 1..256",
    "transcribe talk.wav --workers 100000": "argument --workers: 100000 is not in 1..",
    "transcribe talk.wav --set beam=100000": "--set: beam: 100000 is more than 1000",
    "transcribe talk.wav --set nbest=100000": "--set: nbest: 100000 is more than 1000",
    "transcribe talk.wav --set tokens=100000": "--set: tokens: 100000 is more than 20000",
    "transcribe talk.wav --threads 100000": "threads: 100000 is more than",
    "listen --pcm --chunk 100000": "chunk: 100000 encoder frames are not in 1..1500",
    "listen --pcm --channels 100000": "argument --channels: 100000 is not in 1..64",
    "listen --pcm --rate 100000000": "100000000 Hz is not between",
    "data label set.tsv --out a.tsv --min-confidence 2": "argument --min-confidence: 2 is not in",
    "data make . a.tsv --jobs -1": "argument --jobs: -1 is not in 0..256",
    "data check set.tsv --jobs 100000": "argument --jobs: 100000 is not in 0..256",
    "lm train a.txt --out a.arpa --order 100": "order: must be 1 to",
    "export m out --priors a --limit 0": "argument --limit: 0 is not above 0",
    "export m out --priors a --prior-weight nan": "argument --prior-weight: nan is not in 0..10",
}
# With a model of CTC that has neither lexicon nor language model, and a tiny Whisper.
TONES = {
    "--lm-weight 2": "--lm-weight: there is no language model (--lm)",
    "--set word_bonus=1": "--set word_bonus: there is no language model (--lm)",
    "--set lm_pass=second": "--set lm_pass: needs --lm",
    "--set hotword_cap=3": "--set hotword_cap: needs --hotwords",
    "--set rescorer_share=0.3": "--set rescorer_share: not with method",
    "--set tokens=100": "--set tokens: not with method",
    "--set length_penalty=1": "--set length_penalty: not with method",
    "--beam 3 --method greedy": "--beam: not with method greedy",
    "--rescorer mynah-en": "rescorer: ranks words of a lexicon",
    "--rescorer mynah-en --live": "rescorer: ranks words of a lexicon",
    "--beam-size 3": "--beam-size: only for Whisper models",
    "--batch-size 3": "--batch-size: only for Whisper models",
    "--no-vad --vad-pad 0.1": "--no-vad: the other options",
}
WHISPER = {
    "--language-detection-segments 3": "--language-detection-segments: is for detecting",
    "--language-detection-threshold 0.3": "--language-detection-threshold: is for detecting",
    "--beam-size 1 --patience 2": "--patience: there is no beam",
    "--beam-size 1 --length-penalty 1 --temperature-increment-on-fallback None":
        "--length-penalty: there is one hypothesis",
    "--best-of 3 --temperature-increment-on-fallback None": "--best-of: there is no temperature",
    "--seed 3 --temperature-increment-on-fallback None": "--seed: there is no temperature",
    "--prompt-reset-on-temperature 0.3 --condition-on-previous-text False":
        "--prompt-reset-on-temperature: needs --condition-on-previous-text True",
    "--max-initial-timestamp 0.5 --without-timestamps True": "--max-initial-timestamp: not with",
    "--append-punctuations !": "--append-punctuations: needs --word-timestamps True",
    "--batch-size 100000": "--batch-size: 100000 is not in 1..256",
    "--beam-size 100000": "--beam-size: 100000 is not in 1..100",
    "--lm-weight 2": "--lm-weight: not with",
    "--rescorer mynah-en": "--rescorer: not with",
    "--live --second-look": "--live: not with",
}  # fmt: skip
# What asks for nothing, or for what is done anyway, passes.
PASS = [
    ("tones", "--lm-weight 1 --lm words.arpa --set word_bonus=0.1"),
    ("tones", "--rescorer off --no-second-look --max_line_width None --highlight_words False"),
    ("tones", "--hotwords abc --hotword-weight 2 --set hotword_cap=3 --words"),
    ("whisper", "--best-of 5 --seed 0 --temperature-increment-on-fallback None"),
    ("whisper", "--prepend-punctuations \"'“¿([{- --beam-size 1 --patience 1"),
]
ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-1 abc\n\n\\end\\\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models ``tones`` and ``whisper``, a recording, and what goes with it."""
    folder = tmp_path_factory.mktemp("idle")
    write_tone_model(folder / "tones")
    source = write_random(folder / "hf", "huggingface", DIMS, 4, end=-4.0, times=-4.0)
    import_whisper(source, folder / "whisper")
    write(folder / "talk.wav", speak("abc"), RATE)
    write(folder / "silence.wav", np.zeros(RATE, np.float32), RATE)
    (folder / "words.arpa").write_text(ARPA)
    (folder / "set.tsv").write_text("id\tpath\ttext\none\ttalk.wav\tabc\n")
    return folder


@pytest.fixture
def call(models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(models)

    def run(line: str) -> tuple[int, str, str]:
        code = main(line.split())
        out, err = capsys.readouterr()
        return code, out, err

    return run


def refused(call: Call, line: str, said: str) -> None:
    code, out, err = call(line)
    assert (code, out, err.count("\n")) == (2, "", 1), f"{line}: {err}"
    assert said in err, line


def test_an_option_without_its_partner(call: Call, models: Path) -> None:
    before = sorted(models.iterdir())
    for line, said in ALONE.items():
        refused(call, line, said)
    assert sorted(models.iterdir()) == before  # nothing half-written


def test_absurd_numbers(call: Call) -> None:
    for line, said in ABSURD.items():
        needs_model = line.split()[0] in ("transcribe", "listen") and "argument" not in said
        refused(call, line + " --model tones" * needs_model, said)


@pytest.mark.parametrize(("model", "table"), [("tones", TONES), ("whisper", WHISPER)])
def test_an_option_that_the_model_cannot_use(call: Call, model: str, table: dict[str, str]) -> None:
    for options, said in table.items():
        language = " --language en" if model == "whisper" else ""
        refused(call, f"transcribe talk.wav --quiet --model {model}{language} {options}", said)
    if model == "tones":
        refused(call, "evaluate set.tsv --model tones --lm-weight 2", TONES["--lm-weight 2"])
        refused(call, "listen --pcm --model tones --lm-weight 2", TONES["--lm-weight 2"])
        refused(call, "data label set.tsv --out a.tsv --model tones --lm-weight 2",
                TONES["--lm-weight 2"])  # fmt: skip


@pytest.mark.parametrize(("model", "options"), PASS)
def test_what_acts_or_asks_for_nothing_passes(call: Call, model: str, options: str) -> None:
    name = "silence.wav --language en" if model == "whisper" else "talk.wav"
    code, _, err = call(f"transcribe {name} --quiet --model {model} {options}")
    assert code == 0, err


def test_the_bundled_model_has_company(call: Call) -> None:
    for options in ("--lm-weight 1", "--set nbest=20 --set rescorer_share=0.7", "--beam 5"):
        code, _, err = call(f"transcribe silence.wav --quiet {options}")
        assert code == 0, err
    refused(call, "transcribe silence.wav --quiet --rescorer off --set rescorer_bonus=1",
            "--set rescorer_bonus: there is no neural language model")  # fmt: skip
    refused(call, "transcribe silence.wav --quiet --set attention_pass=true", "no attention")


def test_every_option_acts_with_some_method() -> None:
    """No row of the table is misspelt, and each option has its use."""
    everything = Company(True, True, True, True, True, True)
    options = [DecodingOptions(method=m, unknown_word=1.0, attention_pass=True) for m in METHODS]
    names = set(DecodingOptions.__dataclass_fields__)
    for name in names:
        assert any(idle(name, one, everything) is None for one in options), name
    from mynah.runtime import idle as module

    assert set(module._METHODS) <= names
