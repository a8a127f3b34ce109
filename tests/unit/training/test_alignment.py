"""The cross entropy with known sounds, against its definition; and errors counted in units."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mynah.config import build
from mynah.data.loader import Batch
from mynah.decoding.ngram import load_ngram
from mynah.errors import ConfigError
from mynah.losses import consistency_loss
from mynah.losses.lfmmi import denominator, grammar_from
from mynah.models.u2.model import U2, U2Config
from mynah.text import char_tokenizer
from mynah.training.config import EvaluateConfig
from mynah.training.task import Place
from mynah.training.tasks.ctc_attention import CtcAttention, Options, draw_chunk

TOKENIZER = char_tokenizer(["ab"])
A, B = TOKENIZER.encode("a") + TOKENIZER.encode("b")


def make_task(layers: int = 1, **options: float) -> CtcAttention:
    torch.manual_seed(1)
    values = {
        "vocab_size": TOKENIZER.vocab_size, "feature_dim": 8,
        "encoder": {"dim": 16, "heads": 2, "layers": layers, "hidden": 16,
                    "subsampling_channels": 4, "dropout": 0.0, "position_dropout": 0.0},
        "decoder": {"layers": 0},
    }  # fmt: skip
    table = Options(ctc_weight=1.0, dynamic_chunk=False, **options)
    model = U2(build(U2Config, values))
    return CtcAttention(model, TOKENIZER, table, EvaluateConfig(unit="token", language=""))


def make_batch(frames: tuple[int, int] = (40, 30)) -> Batch:
    labels = torch.full((2, 40), -1)
    labels[0, 4:20], labels[0, 20:28], labels[0, 28:40] = A, B, 0
    labels[1, 8:40] = B  # beyond the 30 frames too
    feats = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(2))
    return Batch(
        ids=("x", "y"), feats=feats, feat_lens=torch.tensor(frames),
        tokens=torch.tensor([[A, B], [B, 0]]), token_lens=torch.tensor([2, 1]),
        texts=("ab", "b"), labels=labels,
    )  # fmt: skip


def test_the_cross_entropy_leaves_out_blank_silence_and_what_is_not_known() -> None:
    task, batch, place = make_task(alignment_weight=0.5), make_batch(), Place(1, 1, 0)
    found = task.losses(batch, "recognizer", place)
    assert task.parts == ("ctc", "alignment")
    encoded, lens, _ = task.model(batch.feats, batch.feat_lens)
    logits, expected, counted = task.model.ctc(encoded).detach(), 0.0, 0
    assert batch.labels is not None
    for row in range(2):
        for frame in range(int(lens[row])):
            label = int(batch.labels[row, frame * 4 + 3])
            if label > 0:
                others = [float(x) for i, x in enumerate(logits[row, frame]) if i != 0]
                expected += math.log(sum(map(math.exp, others))) - float(logits[row, frame, label])
                counted += 1
    assert counted > 6
    assert float(found.parts["alignment"]) == pytest.approx(expected, rel=1e-4)
    assert float(found.total.detach()) == pytest.approx(
        float(found.parts["ctc"]) + 0.5 * expected, rel=1e-4
    )
    found.total.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.model.parameters())


def test_a_batch_without_labels_has_the_ctc_loss_alone() -> None:
    task, place = make_task(alignment_weight=0.5), Place(1, 1, 0)
    found = task.losses(replace(make_batch(), labels=None), "recognizer", place)
    assert float(found.parts["alignment"]) == 0.0
    plain = make_task().losses(make_batch(), "recognizer", place)
    assert float(found.total.detach()) == pytest.approx(float(plain.total.detach()))
    with pytest.raises(ConfigError, match="alignment_weight"):
        Options(alignment_weight=-1.0)


def test_errors_are_counted_in_units() -> None:
    task = make_task()
    task.model.eval()
    with torch.no_grad():
        task.model.ctc.weight.zero_()
        task.model.ctc.bias.zero_()
        task.model.ctc.bias[A] = 9.0  # it hears "a" and nothing else
        sums = task.evaluate(make_batch())
    assert (sums["errors"], sums["words"]) == (2.0, 3.0)  # "ab" lost its b, "b" was taken for an a


def test_the_middle_layers_ctc_is_that_of_an_encoder_that_ends_there() -> None:
    task, batch, place = make_task(layers=3, middle_weight=0.5), make_batch(), Place(1, 1, 0)
    found = task.losses(batch, "recognizer", place)
    assert task.parts == ("ctc", "middle")
    assert float(found.total.detach()) == pytest.approx(
        float(found.parts["ctc"]) + 0.5 * float(found.parts["middle"]), rel=1e-5
    )
    short = make_task(layers=2)
    short.model.load_state_dict(task.model.state_dict(), strict=False)
    expected = short.losses(batch, "recognizer", place)
    assert float(found.parts["middle"]) == pytest.approx(float(expected.parts["ctc"]), rel=1e-5)
    with pytest.raises(ConfigError, match="middle_weight"):
        Options(middle_weight=-1.0)


def test_views_of_an_utterance_are_drawn_to_one_another() -> None:
    task, place = make_task(consistency_weight=0.2), Place(1, 1, 0)
    assert task.parts == ("ctc", "consistency")
    batch = replace(make_batch((40, 40)), views=2)
    found = task.losses(batch, "recognizer", place)
    encoded, lens, _ = task.model(batch.feats, batch.feat_lens)
    expected, _ = consistency_loss(task.model.ctc(encoded), lens)
    assert float(found.parts["consistency"]) == pytest.approx(float(expected.detach())) != 0.0
    assert float(found.total.detach()) == pytest.approx(
        float(found.parts["ctc"]) + 0.2 * float(expected.detach()), rel=1e-5
    )
    same = replace(batch, feats=batch.feats[[0, 0]])
    alike = float(task.losses(same, "recognizer", place).parts["consistency"])
    assert alike == pytest.approx(0.0, abs=1e-9)  # rows of a batch may round differently
    with pytest.raises(ConfigError, match=r"needs data\.views = 2"):
        task.losses(make_batch(), "recognizer", place)
    task.model.eval()
    with torch.no_grad():
        assert task.evaluate(make_batch())["utterances"] == 2.0  # the development set has no views
    with pytest.raises(ConfigError, match="consistency_weight"):
        Options(consistency_weight=-1.0)


def first_of(batch: Batch) -> Batch:
    """The first row alone."""
    return replace(
        batch, ids=batch.ids[:1], feats=batch.feats[:1], feat_lens=batch.feat_lens[:1],
        tokens=batch.tokens[:1], token_lens=batch.token_lens[:1], texts=batch.texts[:1],
        labels=None,
    )  # fmt: skip


def test_mmi_takes_all_texts_against_the_right_one(tmp_path: Path) -> None:
    path, place = tmp_path / "units.arpa", Place(1, 1, 0)
    units = "-0.4\t</s>\n-99\t<s>\n-9\t<unk>\n-0.5\ta\n-0.6\tb\n"
    path.write_text(f"\\data\\\nngram 1=5\n\n\\1-grams:\n{units}\n\\end\\\n", "utf-8")
    task, batch = make_task(mmi_weight=0.9, grammar=str(path)), make_batch()
    assert task.parts == ("ctc", "mmi")
    found = task.losses(batch, "recognizer", place)
    encoded, lens, _ = task.model(batch.feats, batch.feat_lens)
    grammar = grammar_from(load_ngram(path), task.tokenizer.units, never=[1, 4])
    expected = float(denominator(task.model.ctc(encoded), lens, grammar).detach())
    assert float(found.parts["mmi"]) == pytest.approx(expected, rel=1e-5) and expected < 0
    assert float(found.total.detach()) == pytest.approx(
        float(found.parts["ctc"]) + 0.9 * expected, rel=1e-5
    )
    # no text is worth more than all together, and its own probability is what it is by the grammar
    said = [[u for u in row if u] for row in batch.tokens.tolist()]
    of_text = sum(math.log(10) * (-0.4 - sum(0.5 if u == A else 0.6 for u in row)) for row in said)
    assert of_text - float(found.parts["ctc"]) < expected
    # a text that does not fit counts nothing, as with CTC
    cut = replace(batch, feat_lens=torch.tensor([40, 12]), tokens=torch.tensor([[A, B], [A, A]]))
    cut = replace(cut, token_lens=torch.tensor([2, 2]))
    short, alone = (task.losses(b, "recognizer", place) for b in (cut, first_of(cut)))
    for part in ("ctc", "mmi"):
        assert float(short.parts[part]) == pytest.approx(float(alone.parts[part]), rel=1e-4)
    with pytest.raises(ConfigError, match=r"task\.grammar: no such file"):
        make_task(mmi_weight=0.9, grammar=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="at most ctc_weight"):
        Options(ctc_weight=0.5, mmi_weight=0.6, grammar="x")
    for wrong in ({"mmi_weight": 0.5}, {"grammar": "x"}, {"mmi_weight": -1.0, "grammar": "x"}):
        with pytest.raises(ConfigError, match="mmi_weight"):
            Options(**wrong)  # type: ignore[arg-type]


def test_chunks_are_drawn_from_their_range() -> None:
    options = Options(dynamic_chunk=True, min_chunk=3, max_chunk=5, full_context=0.2)
    drawn = {draw_chunk(options, Place(1, step, 0), 100).size for step in range(200)}
    assert drawn == {None, 3, 4, 5}
    for least, most in ((0, 5), (6, 5)):
        with pytest.raises(ConfigError, match="no range"):
            Options(min_chunk=least, max_chunk=most)
