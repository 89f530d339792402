"""Intervals of shares and of differences."""

import numpy as np
import pytest

from app.evaluation.statistics import paired_difference, wilson


def test_wilson_is_as_published() -> None:
    """Newcombe (1998), Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    with pytest.raises(ValueError):
        wilson(0, 0)


def test_a_difference_is_that_of_the_same_questions() -> None:
    first, second = [1.0] * 30 + [0.0] * 10, [0.0] * 30 + [0.0] * 10
    mean, between = paired_difference(first, second, list(range(40)))
    assert mean == 0.75
    # As by the normal approximation: 0.75 ± 1.96 √(0.75 · 0.25 / 40).
    assert between == pytest.approx((0.616, 0.884), abs=0.02)
    assert paired_difference(first, first, list(range(40))) == (0.0, (0.0, 0.0))


def test_the_same_answers_give_the_same_interval() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.random(50).tolist(), generator.random(50).tolist()
    groups = list(range(50))
    assert paired_difference(first, second, groups) == paired_difference(first, second, groups)


def test_questions_of_a_group_are_one_draw() -> None:
    """Ten questions asked ten times each know no more than ten: else copies would make it sure."""
    first, second = [1.0] * 6 + [0.0] * 4, [0.0] * 6 + [1.0] * 4
    _, once = paired_difference(first, second, list(range(10)))
    groups = [number % 10 for number in range(100)]
    _, copied = paired_difference(first * 10, second * 10, groups)
    assert copied == pytest.approx(once, abs=1e-9)
    _, apart = paired_difference(first * 10, second * 10, list(range(100)))
    assert apart.high - apart.low < 0.5 * (once.high - once.low)


def test_a_long_test_part_is_drawn_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.evaluation import statistics

    monkeypatch.setattr(statistics, "_MAX_DRAWS", 3000)
    mean, between = paired_difference([1.0] * 500, [0.0] * 500, list(range(500)))
    assert (mean, between) == (1.0, (1.0, 1.0))
