"""The parts of a version: what is practised, what chooses the checkpoint, and what is asked after.

Practice rows are learned. Check rows draw the curve, stop a job early and choose its checkpoint.
Test rows choose nothing: they are asked once, when all is decided. Versions from before have two
parts; there the test set chose the checkpoint, too, and it is stored where check rows are now.
Reasons: docs/decisions/0023-rows-are-practice-check-and-test.md.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.core.models import DatasetVersion, Split

# Of fewer rows none are set apart to check on: each is needed to practise, or to test.
LEAST_ROWS_WITH_CHECK = 60
CHECK_SHARE = 0.1
# From so many rows on, the test part has at least so many: under 20 answers nothing can be said.
ROWS_WITH_WHOLE_TEST, LEAST_TEST_ROWS = 120, 24

# By what a split is in a version of three parts.
_NAMES = {Split.TRAIN: "practice set", Split.VALIDATION: "check set", Split.TEST: "test set"}
_WORDS = {Split.TRAIN: "practice", Split.VALIDATION: "check", Split.TEST: "test"}
_MEANINGS = {
    Split.TRAIN: "The model learns from it.",
    Split.VALIDATION: "The model never learns it. It shows during training how well the model "
    "does, and which step to keep.",
    Split.TEST: "The model never learns it, and nothing is chosen by it. It is asked only "
    "after training.",
}
# Of versions of two parts.
TEST_CHOSE = (
    "This data was added before Etude had check sets, so its test set also chose which step to "
    "keep. A result on it looks a little better than it is."
)


def has_three(version: DatasetVersion) -> bool:
    """Say whether a version has a check part of its own; those from before have not."""
    return version.num_test is not None


def test_split(version: DatasetVersion) -> Split:
    """Return the split whose rows are the test questions of a version."""
    return Split.TEST if has_three(version) else Split.VALIDATION


def splits(version: DatasetVersion) -> list[Split]:
    """Return the splits that a version has, whether there is a row in each or not."""
    return list(Split) if has_three(version) else [Split.TRAIN, Split.VALIDATION]


def meant(version: DatasetVersion, split: Split) -> Split:
    """Return what a stored split means: what two parts keep as `validation` is the test set."""
    return Split.TEST if not has_three(version) and split is Split.VALIDATION else split


def stored(version: DatasetVersion, part: Split) -> Split:
    """Return under which split a version keeps what is practice, check or test."""
    return Split.VALIDATION if not has_three(version) and part is Split.TEST else part


def count(version: DatasetVersion, split: Split | None = None) -> int:
    """Return how many rows a version has, in all or in one split."""
    match split:
        case None:
            return version.num_rows
        case Split.TRAIN:
            return version.num_train
        case Split.VALIDATION:
            return version.num_validation
        case Split.TEST:
            return version.num_test or 0


def num_test(version: DatasetVersion) -> int:
    """Return how many test questions a version has."""
    return count(version, test_split(version))


def num_check(version: DatasetVersion) -> int:
    """Return how many rows only check; none in versions from before, whose test set does."""
    return version.num_validation if has_three(version) else 0


@dataclass(frozen=True)
class Set:
    """One of a version's sets, in words."""

    split: Split
    name: str  # “test set”
    verb: str  # what its rows are for: “to test”
    meaning: str
    num: int


def sets(version: DatasetVersion) -> list[Set]:
    """Return a version's sets as pages show them."""
    return [
        Set(
            split,
            name(version, split),
            "practise" if split is Split.TRAIN else word(version, split),
            _meaning(version, split),
            count(version, split),
        )
        for split in splits(version)
    ]


def names(version: DatasetVersion) -> dict[Split, str]:
    """Return what the sets of a version are called on pages, by their splits."""
    return {split: name(version, split) for split in splits(version)}


def _meaning(version: DatasetVersion, split: Split) -> str:
    if meant(version, split) is Split.TEST and not has_three(version):
        return (
            "The model never learns it. It shows how well the model does, and which step to keep."
        )
    return _MEANINGS[split]


def name(version: DatasetVersion, split: Split) -> str:
    """Return what a set is called on pages: “test set”."""
    return _NAMES[meant(version, split)]


def word(version: DatasetVersion, split: Split) -> str:
    """Return a part in one word, as in a file that is downloaded: “test”."""
    return _WORDS[meant(version, split)]


def set_counts(version: DatasetVersion, of_rows: Iterable[Split]) -> None:
    """Write down how many rows a version of three parts has in each."""
    counts = Counter(of_rows)
    version.num_train, version.num_validation = counts[Split.TRAIN], counts[Split.VALIDATION]
    version.num_test = counts[Split.TEST]


# --- how many, and which ----------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """The ranks whose examples are kept from practice."""

    check: frozenset[int] = frozenset()
    test: frozenset[int] = frozenset()

    def split(self, rank: int) -> Split:
        """Return where an example of this rank stands."""
        if rank in self.test:
            return Split.TEST
        return Split.VALIDATION if rank in self.check else Split.TRAIN


def wanted(num_rows: int, test_share: float) -> tuple[int, int]:
    """Return how many of so many rows check, and how many test.

    Args:
        num_rows: All of them.
        test_share: From 0 to 1. With 0 no row tests; a tenth checks all the same, so that nothing
            is chosen by rows that were practised.
    """
    if num_rows < 2:
        return 0, 0
    num_check = round(num_rows * CHECK_SHARE) if num_rows >= LEAST_ROWS_WITH_CHECK else 0
    if test_share <= 0:
        return num_check, 0
    num_test = max(1, round(num_rows * test_share))
    if num_rows >= ROWS_WITH_WHOLE_TEST:
        num_test = max(LEAST_TEST_ROWS, num_test)
    return num_check, num_test


def draw(ranks: "array[int]", test_share: float) -> Drawn:
    """Draw the test part, then the check part; the smallest ranks are drawn first.

    Equal examples have equal ranks, so none of them stand in two parts. A part has as many
    examples as are wanted, or, after groups of equal ones, the next number that is possible; and
    at least one group is left to practise.
    """
    num_check, num_test = wanted(len(ranks), test_share)
    sizes: dict[int, int] = {}
    for rank in ranks:
        sizes[rank] = sizes.get(rank, 0) + 1
    order = sorted(sizes)
    test = _first(order, sizes, num_test)
    rest = [rank for rank in order if rank not in test]
    return Drawn(_first(rest, sizes, num_check), test)


def _first(order: Sequence[int], sizes: dict[int, int], num_wanted: int) -> frozenset[int]:
    chosen: list[int] = []
    num_chosen = 0
    for rank in order:
        if num_chosen >= num_wanted or len(chosen) >= len(order) - 1:
            break
        # A group as large as the rest of the wish many times over would swallow the practice set.
        if num_chosen + sizes[rank] > max(2 * num_wanted, 1):
            continue
        chosen.append(rank)
        num_chosen += sizes[rank]
    return frozenset(chosen)
