"""Learning rates against numbers worked out by hand."""

from __future__ import annotations

import pytest

from mynah.training.config import OptimConfig, ScheduleConfig
from mynah.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # lr step / warmup, then lr sqrt(warmup / step)
        (ScheduleConfig("warmup", warmup=100), {1: 2e-5, 50: 1e-3, 100: 2e-3, 400: 1e-3}),
        (ScheduleConfig("warmup", warmup=0), {1: 2e-3, 4: 1e-3, 100: 2e-4}),
        # lr width^-0.5 min(step^-0.5, step warmup^-1.5)
        (ScheduleConfig("noam", warmup=100, width=256), {10: 1.25e-6, 100: 1.25e-5, 400: 6.25e-6}),
        # from the peak at step 100 down to a tenth of it at step 500
        (
            ScheduleConfig("cosine", warmup=100, floor=0.1),
            {50: 1e-3, 100: 2e-3, 300: 1.1e-3, 500: 2e-4, 900: 2e-4},
        ),
        (ScheduleConfig("cosine", warmup=0), {250: 1e-3, 500: 0.0}),
        (ScheduleConfig("constant", warmup=100), {25: 5e-4, 100: 2e-3, 9999: 2e-3}),
        (ScheduleConfig("constant", warmup=0), {1: 2e-3, 9999: 2e-3}),
    ],
)  # fmt: skip
def test_learning_rates(schedule: ScheduleConfig, expected: dict[int, float]) -> None:
    for step, rate in expected.items():
        found = learning_rate(OptimConfig(lr=2e-3), schedule, step, total=500)
        assert found == pytest.approx(rate, rel=1e-9, abs=1e-15), step


def test_without_a_number_of_steps_a_cosine_falls_with_what_is_done() -> None:
    optim, schedule = OptimConfig(lr=2e-3), ScheduleConfig("cosine", warmup=100, floor=0.1)
    at = {
        (50, 0.3): 1e-3,
        (100, 0.0): 2e-3,
        (700, 0.5): 1.1e-3,
        (9999, 1.0): 2e-4,
        (9, 2.0): 1.8e-4,
    }
    for (step, share), rate in at.items():
        assert learning_rate(optim, schedule, step, 0, share) == pytest.approx(rate)
