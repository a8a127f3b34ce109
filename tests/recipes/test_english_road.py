"""The road of the English recipe in small: from recordings to the error rate, in a minute or two.

The project's own twelve recordings stand in for the sets. A small model learns them by heart, which
says nothing about speech that it has not heard: what is tested is that each command of
`recipes/english/RESULTS.md` does its part, and that what comes out hears words.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mynah.cli import main
from mynah.model_folder import read_model_folder

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("onnxscript")

# The words of the recordings as CMUdict says them, but for four, which are left to the rules.
DICTIONARY = """
a AH0 | along AH0 L AO1 NG | and AH0 N D | answered AE1 N S ER0 D | are AA1 R | at AE1 T
back B AE1 K | because B IH0 K AO1 Z | before B IH0 F AO1 R | birds B ER1 D Z | boats B OW1 T S
brother B R AH1 DH ER0 | bus B AH1 S | children CH IH1 L D R AH0 N | come K AH1 M | cup K AH1 P
dark D AA1 R K | down D AW1 N | end EH1 N D | evening IY1 V N IH0 NG | every EH1 V ER0 IY0
for F AO1 R | fresh F R EH1 SH | garden G AA1 R D AH0 N | had HH AE1 D | he HH IY1
heavy HH EH1 V IY0 | in IH0 N | is IH1 Z | it IH1 T | kettle K EH1 T AH0 L | knew N UW1
late L EY1 T | let L EH1 T | letter L EH1 T ER0 | milk M IH1 L K | my M AY1
nobody N OW1 B AA2 D IY0 | of AH1 V | on AA1 N | open OW1 P AH0 N | out AW1 T
painted P EY1 N T AH0 D | piano P IY0 AE1 N OW0 | picture P IH1 K CH ER0 | plays P L EY1 Z
please P L IY1 Z | put P UH1 T | quiet K W AY1 AH0 T | read R EH1 D | river R IH1 V ER0
road R OW1 D | sailed S EY1 L D | she SH IY1 | shop SH AA1 P | sit S IH1 T | small S M AO1 L
snow S N OW1 | some S AH1 M | spring S P R IH1 NG | sugar SH UH1 G ER0 | tea T IY1 | the DH AH0
there DH EH1 R | three TH R IY1 | to T UW1 | train T R EY1 N | twice T W AY1 S
until AH0 N T IH1 L | waiting W EY1 T IH0 NG | walked W AO1 K T | wants W AA1 N T S | was W AA1 Z
we W IY1 | who HH UW1 | with W IH1 DH | yellow Y EH1 L OW0 | air EH1 R
"""
SMALL = [
    "model.encoder.dim=64", "model.encoder.heads=2", "model.encoder.layers=2",
    "model.encoder.hidden=128", "model.encoder.subsampling_channels=16",
    "model.encoder.kernel=7", "data.max_frames=3000", "data.buckets=1",
    "data.spec_augment.time_masks=0", "data.spec_augment.frequency_masks=0",
    "optim.lr=4e-3", "schedule.warmup=20", "loop.precision=fp32", "loop.log_every=20",
    "loop.save_minutes=0", "loop.tensorboard=false", "evaluate.every=1000",
]  # fmt: skip


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def steps_of(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if line["event"] == "step"]


@pytest.mark.timeout(600)
def test_from_recordings_to_the_error_rate(
    repository: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    text = tmp_path / "text"
    text.mkdir()
    entries = [entry.strip() for line in DICTIONARY.splitlines() for entry in line.split("|")]
    (text / "cmudict.dict").write_text("\n".join(filter(None, entries)) + "\n", "utf-8")
    with (speech / "manifest.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    (text / "prose.txt").write_text("".join(row["text"] + "\n" for row in rows), "utf-8")

    source = f'[{{ manifest = "{speech / "manifest.tsv"}", language = "en" }}]'
    recipe = repository / "recipes" / "english" / "phones_1.toml"
    run("train", recipe, "--out", tmp_path / "run", "--threads", 1, "--device", "cpu",
        f"data.root={tmp_path}", f"data.train={source}", f"data.dev={source}",
        "tokenizer.dictionary=text/cmudict.dict", "loop.max_steps=150", *SMALL)  # fmt: skip
    losses = steps_of(tmp_path / "run")
    assert losses[-1] < 0.5 * losses[0], f"the loss fell too little: {losses}"

    run("data", "pronounce", text / "prose.txt", "--dictionary", text / "cmudict.dict",
        "--out", text / "lexicon.tsv", "--known", 1, "--others", 1)  # fmt: skip
    run("lm", "train", text / "prose.txt", "--language", "en", "--out", text / "en.ngram")
    run("export", tmp_path / "run" / "model", tmp_path / "parts", "--precision", "int8",
        "--priors", speech / "manifest.tsv", "--prior-weight", 0.5)  # fmt: skip
    run("lexicon", tmp_path / "parts", tmp_path / "words", "--table", text / "lexicon.tsv",
        "--ngram", text / "en.ngram", "--boundary", "", "--set", "lm_weight=0.6",
        "--set", "blank_penalty=1")  # fmt: skip
    info = read_model_folder(tmp_path / "words").info
    assert info.decoding["method"] == "lexicon" and info.tokenizer["kind"] == "phone"

    result = tmp_path / "result.json"
    capsys.readouterr()
    run("evaluate", speech / "manifest.tsv", "--model", tmp_path / "words", "--json", result)
    assert "errors" in capsys.readouterr().out
    found = json.loads(result.read_text("utf-8"))
    # nothing heard is 1.0, and so, about, are words at random
    assert found["groups"]["all"]["rate"] < 0.5, found["groups"]["all"]
    run("evaluate", speech / "manifest.tsv", "--model", tmp_path / "words", "--live", "--json",
        result)  # fmt: skip
    assert json.loads(result.read_text("utf-8"))["groups"]["all"]["rate"] < 0.7
