"""Whether there are enough examples to learn from, and enough to test with."""

from array import array
from collections.abc import Iterable

from app.datasets.doctor.findings import CheckFinding
from app.datasets.doctor.kinds import ENOUGH_EXAMPLES, ENOUGH_TESTS
from app.datasets.doctor.rows import Row


class Amount:
    """Counts."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._tests = array("i")

    def check(self, rows: list[Row]) -> None:
        self._num_rows += len(rows)
        self._tests.extend(row.index for row in rows if row.is_test)

    def findings(self) -> Iterable[CheckFinding]:
        # What is said of the whole marks no example.
        if self._num_rows < ENOUGH_EXAMPLES:
            yield CheckFinding("amount", detail={"total": f"{self._num_rows:,}"})
        if 0 < len(self._tests) < ENOUGH_TESTS and self._num_rows >= ENOUGH_EXAMPLES:
            count = f"{len(self._tests)} example" + ("s" if len(self._tests) > 1 else "")
            yield CheckFinding("test_set", detail={"tests": count})
