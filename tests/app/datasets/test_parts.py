"""The draw of the parts: so many to check and to test, never all, equal examples in one part."""

import random
from array import array
from collections import Counter

import pytest
from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, Split
from app.datasets import parts
from tests.factories import make_dataset_version


@pytest.mark.parametrize(
    ("num_rows", "share", "num_check", "num_test"),
    [
        (1, 0.1, 0, 0),
        (2, 0.1, 0, 1),
        (59, 0.1, 0, 6),
        (60, 0.1, 6, 6),
        (119, 0.1, 12, 12),
        (120, 0.1, 12, 24),
        (240, 0.1, 24, 24),
        (1000, 0.1, 100, 100),
        (1_000_000, 0.1, 100_000, 100_000),
        # A person chooses how many test; a tenth checks beside them.
        (1000, 0.3, 100, 300),
        (1000, 0.01, 100, 24),
        (100, 0.01, 10, 1),
        # None to test: then all the same nothing is chosen by what was practised.
        (1000, 0.0, 100, 0),
        (59, 0.0, 0, 0),
    ],
)
def test_how_many_check_and_test(
    num_rows: int, share: float, num_check: int, num_test: int
) -> None:
    assert parts.wanted(num_rows, share) == (num_check, num_test)
    drawn = parts.draw(array("Q", range(num_rows)), share)
    assert (len(drawn.check), len(drawn.test)) == (num_check, num_test)
    assert not drawn.check & drawn.test


@pytest.mark.parametrize(
    ("ranks", "share", "test"),
    [
        (range(100), 0.1, set(range(10))),
        (range(10), 0.01, {0}),
        (range(2), 0.5, {0}),
        ([7], 0.5, set()),
        ([7, 7, 7], 0.5, set()),
        # Eight equal ones would swallow the practice set: the next is drawn instead.
        ([1] * 8 + [2, 3], 0.1, {2}),
        ([1, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0.1, {1}),
    ],
)
def test_the_smallest_ranks_test(ranks: list[int], share: float, test: set[int]) -> None:
    assert parts.draw(array("Q", ranks), share).test == test


def test_the_next_ranks_check() -> None:
    drawn = parts.draw(array("Q", range(100)), 0.2)
    assert drawn.check == set(range(20, 30))
    assert [drawn.split(rank) for rank in (0, 19, 20, 29, 30)] == [
        Split.TEST,
        Split.TEST,
        Split.VALIDATION,
        Split.VALIDATION,
        Split.TRAIN,
    ]


def test_equal_rows_stand_in_one_part_and_something_is_left_to_practise() -> None:
    dice = random.Random(7)
    for _ in range(200):
        num_groups = dice.randint(2, 80)
        ranks = [rank for rank in range(num_groups) for _ in range(dice.choice([1, 1, 1, 2, 9]))]
        dice.shuffle(ranks)
        drawn = parts.draw(array("Q", ranks), dice.choice([0.01, 0.1, 0.5]))
        rows = Counter(drawn.split(rank) for rank in ranks)
        assert rows[Split.TRAIN] > 0
        # The split goes by rank alone, so no row nor its equal is in two.
        assert not drawn.check & drawn.test


def test_a_version_from_before_has_two_parts(db: Session) -> None:
    version = make_dataset_version(db, num_train=20, num_validation=4)
    db.expire(version)
    assert version.num_test is None
    assert not parts.has_three(version)
    assert parts.test_split(version) is Split.VALIDATION
    assert parts.names(version) == {Split.TRAIN: "practice set", Split.VALIDATION: "test set"}
    assert parts.word(version, Split.VALIDATION) == "test"
    assert (parts.num_check(version), parts.num_test(version), version.num_rows) == (0, 4, 24)
    assert parts.meant(version, Split.VALIDATION) is Split.TEST
    assert parts.stored(version, Split.TEST) is Split.VALIDATION


def test_a_version_of_today_has_three(db: Session) -> None:
    version = make_dataset_version(db, num_train=20, num_validation=4, num_test=6)
    assert parts.has_three(version)
    assert parts.test_split(version) is Split.TEST
    assert list(parts.names(version).values()) == ["practice set", "check set", "test set"]
    assert [parts.count(version, split) for split in (None, *Split)] == [30, 20, 4, 6]
    assert parts.meant(version, Split.VALIDATION) is Split.VALIDATION
    assert parts.stored(version, Split.TEST) is Split.TEST


def test_none_to_test_is_three_parts_all_the_same() -> None:
    version = DatasetVersion(num_train=90, num_validation=10, num_test=0)
    assert parts.has_three(version)
    assert parts.num_test(version) == 0
