"""The punctuation model: what an output sees, and that its neighbours in a batch do not matter."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mynah.errors import ConfigError  # noqa: E402
from mynah.models.punctuation.model import Punctuation, PunctuationConfig  # noqa: E402


@pytest.fixture(scope="module")
def model() -> Punctuation:
    torch.manual_seed(5)
    config = PunctuationConfig(
        features={"word": 40, "pair": 30}, feature_dim=6, dim=16, layers=2, hidden=24, kernel=5
    )  # fmt: skip
    return Punctuation(config).eval()


def run(model: Punctuation, rows: torch.Tensor, *lens: int) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        marks, cases = model(rows, torch.tensor(lens))
    return marks, cases


def test_an_output_sees_so_far_and_no_farther(model: Punctuation) -> None:
    back, ahead = model.config.look_back - 1, model.config.look_ahead  # a pair is made before
    assert (back, ahead) == (4, 4)
    rows = torch.randint(70, (1, 40, 2))
    marks, cases = run(model, rows, 40)
    assert marks.shape == (1, 40, 7) and cases.shape == (1, 40, 2, 3)
    torch.testing.assert_close(marks.exp().sum(-1), torch.ones(1, 40))
    for place in range(40):
        changed = rows.clone()
        changed[0, place] = (changed[0, place] + 7) % 70
        other, others = run(model, changed, 40)
        differs = ((other - marks).abs().amax(-1) > 1e-6)[0].nonzero().flatten().tolist()
        seen = [n for n in range(40) if place - ahead <= n <= place + back]
        assert set(differs) <= set(seen)
        assert {place - ahead, place, place + back} & set(seen) <= set(differs)
        assert set(((others - cases).abs().amax((-1, -2)) > 1e-6)[0].nonzero().flatten().tolist()
                   ) <= set(seen)  # fmt: skip


def test_batch_mates_and_padding_do_not_matter(model: Punctuation) -> None:
    rows = torch.randint(70, (3, 30, 2))
    lens = (30, 7, 1)
    together, cased = run(model, rows, *lens)
    for row, count in enumerate(lens):
        alone, alone_cased = run(model, rows[row : row + 1, :count], count)
        torch.testing.assert_close(together[row, :count], alone[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(cased[row, :count], alone_cased[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel": 4}, "kernel: 4 must be odd"),
        ({"marks": ("", ",")}, "marks: "),
        ({"features": {"letter": 3}}, "features: 'letter' is none of word, again"),
        ({"features": {}}, "features: each needs rows"),
        ({"layers": 0}, "features: each needs rows, and the model a layer"),
    ],
)
def test_wrong_configurations(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PunctuationConfig(**values)  # type: ignore[arg-type]
