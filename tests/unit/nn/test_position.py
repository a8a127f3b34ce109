from __future__ import annotations

import numpy as np
import pytest
import torch

from mynah.nn.position import Sinusoid, rotate


def reference(positions: np.ndarray, dim: int) -> np.ndarray:
    angles = positions[:, None] * 10000.0 ** (-np.arange(0, dim, 2) / dim)
    return np.stack((np.sin(angles), np.cos(angles)), -1).reshape(len(positions), dim)


@pytest.mark.parametrize(
    ("start", "tolerance"),
    [(0, 1e-5), (-70, 5e-5), (5000, 5e-5), (180_000, 1e-4), (1_000_000, 1e-4)],
)
def test_sinusoid_is_right_at_any_position(start: int, tolerance: float) -> None:
    positions = np.arange(start, start + 50)
    found = Sinusoid(64)(torch.from_numpy(positions)).numpy()
    assert np.abs(found - reference(positions, 64)).max() < tolerance


def test_sinusoid_over_batches_of_positions() -> None:
    positions = torch.tensor([[0, 1], [7, 8]])
    found = Sinusoid(8)(positions)
    assert found.shape == (2, 2, 8)
    assert torch.equal(found[1, 0], Sinusoid(8)(torch.tensor([7]))[0])


def test_rotation_depends_on_the_difference_of_positions() -> None:
    torch.manual_seed(0)
    sinusoid = Sinusoid(16)
    q, k = torch.randn(16), torch.randn(16)

    def score(i: int, j: int) -> float:
        angles = sinusoid.angles(torch.tensor([i, j]))
        return float(rotate(q, angles[0]) @ rotate(k, angles[1]))

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-2)
