"""The detector's network: streamed as whole, rows apart, nothing from ahead; and its task."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")

from mynah.config import build  # noqa: E402
from mynah.data.loader import Batch  # noqa: E402
from mynah.errors import ConfigError  # noqa: E402
from mynah.models.vad.model import Vad, VadConfig, VadState  # noqa: E402
from mynah.training.config import EvaluateConfig, task_options  # noqa: E402
from mynah.training.task import Place  # noqa: E402
from mynah.training.tasks import vad as tasks  # noqa: E402

CONFIG = VadConfig(feature_dim=6, dim=8, layers=2, kernel=3, delay=2, floor=-3.0)


@pytest.fixture
def model() -> Vad:
    torch.manual_seed(1)
    made = Vad(CONFIG).eval()
    made.mean.normal_()
    made.istd.uniform_(0.5, 1.5)
    return made


def feats(*lens: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(len(lens), max(lens), 6), torch.tensor(lens)


def pick(state: VadState, rows: Sequence[int]) -> VadState:
    return VadState(state.overlap[list(rows)], state.hidden[list(rows)])


@pytest.mark.parametrize("sizes", [(23,), (1,) * 23, (5, 0, 7, 11), (2, 1, 20)])
def test_streamed_as_whole(model: Vad, sizes: tuple[int, ...]) -> None:
    x, lens = feats(23)
    whole, _, end = model(x, lens)
    state, parts, at = None, [], 0
    for size in sizes:
        logits, _, state = model(x[:, at : at + max(size, 1)], torch.tensor([size]), state)
        parts.append(logits[:, :size])
        at += size
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)
    assert torch.allclose(state.hidden, end.hidden, atol=1e-6)
    assert torch.equal(state.overlap, end.overlap)


def test_rows_do_not_matter_to_each_other(model: Vad) -> None:
    x, lens = feats(9, 0, 4)
    x[0, 9:] = x[2, 4:] = 1e3  # padding may hold anything
    together, _, state = model(x, lens, model.init_state(3))
    for row, count in enumerate(lens.tolist()):
        alone, _, own = model(x[row : row + 1, : max(count, 1)], lens[row : row + 1])
        assert torch.allclose(together[row, :count], alone[0, :count], atol=1e-6)
        same = pick(state, [row])
        assert torch.allclose(same.hidden, own.hidden, atol=1e-6)
        assert torch.equal(same.overlap, own.overlap)
    y, _, _ = model(x[:, :3], torch.tensor([3, 3, 3]), state)
    swapped, _, _ = model(x[[2, 0], :3], torch.tensor([3, 3]), pick(state, [2, 0]))
    assert torch.allclose(swapped, y[[2, 0]], atol=1e-6)


def test_it_looks_ahead_by_its_delay_alone(model: Vad) -> None:
    x, lens = feats(12)
    before, _, _ = model(x, lens)
    x[:, 7:] += 1.0
    after, _, _ = model(x, lens)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


def test_floor(model: Vad) -> None:
    x, lens = feats(5)
    assert torch.equal(model(x - 100.0, lens)[0], model(torch.full_like(x, -3.0), lens)[0])


def batch(model: Vad, *lens: int) -> Batch:
    x, feat_lens = feats(*lens)
    labels = (x.mean(-1) > 0).long()
    for row, count in enumerate(lens):
        labels[row, count:] = 0
    return Batch(tuple("abc"[: len(lens)]), x, feat_lens, labels, feat_lens, ("",) * len(lens))


def test_losses_are_sums_over_the_labelled_frames(model: Vad) -> None:
    task = tasks.make_task(model, None, tasks.Options(), EvaluateConfig())
    both = task.losses(batch(model, 9, 6), "detector", Place(1, 1, 0))
    assert both.counts == {"utterances": 2, "tokens": 9 + 6 - 2 * CONFIG.delay, "frames": 15}
    made = batch(model, 9, 6)
    logits = model(made.feats, made.feat_lens)[0].detach()
    expected = 0.0
    for row, count in enumerate((9, 6)):
        for frame in range(count - CONFIG.delay):
            p = torch.sigmoid(logits[row, frame + CONFIG.delay])
            expected -= float(torch.log(p if made.tokens[row, frame] else 1 - p))
    assert float(both.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_what_is_far_from_speech_weighs_more(model: Vad) -> None:
    made = batch(model, 12)
    made.tokens[:] = 0
    made.tokens[0, 4] = 1
    valid = 12 - CONFIG.delay
    parts = []
    for weight in (1.0, 3.0):
        options = build(tasks.Options, {"far": 3, "far_weight": weight})
        task = tasks.make_task(model, None, options, EvaluateConfig())
        parts.append(float(task.losses(made, "detector", Place(1, 1, 0)).total.detach()))
    logits = model(made.feats, made.feat_lens)[0].detach()[0, CONFIG.delay :]
    far = [t for t in range(valid) if abs(t - 4) >= 3]
    more = sum(float(torch.nn.functional.softplus(logits[t])) for t in far)
    assert parts[1] - parts[0] == pytest.approx(2 * more, rel=1e-4)


def test_scores(model: Vad) -> None:
    task = tasks.make_task(model, None, tasks.Options(), EvaluateConfig())
    sums = dict.fromkeys(task.sums, 0.0)
    for _ in range(2):
        with torch.no_grad():
            found = task.evaluate(batch(model, 30, 20))
        for key, value in found.items():
            sums[key] += value
    assert sums["frames"] == 2 * (50 - 2 * CONFIG.delay)
    scores = task.scores(sums)
    assert 0.0 <= scores["error"] <= 1.0 and scores["threshold"] in tasks.THRESHOLDS
    perfect = {**sums, **{f"{k}3": sums["speech"] for k in ("hit", "said")}}
    assert task.scores(perfect) == {"error": 0.0, "threshold": 0.4, "loss": scores["loss"]}
    assert task.scores(dict.fromkeys(task.sums, 0.0))["error"] == 1.0


def test_wrong_settings() -> None:
    with pytest.raises(ConfigError, match="far: must be above 0"):
        task_options(tasks.Options, {"kind": "vad", "far": 0})
    with pytest.raises(ConfigError, match="far_weight: must be above 0"):
        task_options(tasks.Options, {"kind": "vad", "far_weight": 0.0})
    with pytest.raises(ConfigError, match="dim: must be above 0"):
        build(VadConfig, {"dim": 0})
    with pytest.raises(ConfigError, match="feature_dim: 3 in the recipe, 6 by the front end"):
        tasks.make_model({"feature_dim": 3}, None, 6)
    with pytest.raises(ConfigError, match="this task trains vad, not 'u2'"):
        tasks.make_model({"family": "u2"}, None, 6)
