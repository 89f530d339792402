"""Whether there are enough examples to learn from, and enough to test with."""

from collections.abc import Iterable

from app.core.sentences import counted
from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.kinds import ENOUGH_EXAMPLES, ENOUGH_TESTS
from app.datasets.doctor.rows import PARTS, Row


class Amount:
    """Counts."""

    def __init__(self, *, has_three_parts: bool) -> None:
        self._num_rows = 0
        self._num_tests = 0
        # In versions of two parts, what is stored as `validation` is the test set.
        self._test_part = PARTS[b"test"] if has_three_parts else PARTS[b"validation"]

    def check(self, rows: list[Row]) -> None:
        self._num_rows += len(rows)
        self._num_tests += sum(row.part == self._test_part for row in rows)

    def findings(self) -> Iterable[CheckFinding]:
        # What is said of the whole marks no example.
        if self._num_rows < ENOUGH_EXAMPLES:
            yield CheckFinding("amount", detail={"total": f"{self._num_rows:,}"})
        if 0 < self._num_tests < ENOUGH_TESTS and self._num_rows >= ENOUGH_EXAMPLES:
            count = counted(self._num_tests, "1 example", "{n} examples")
            yield CheckFinding("test_set", detail={"tests": count})
