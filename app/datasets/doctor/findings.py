"""What a family of checks hands over, and what each of them looks like."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.datasets.doctor.rows import Row


@dataclass
class CheckFinding:
    """Which examples have something in common, by index in rising order."""

    kind: str
    rows: "array[int]" = field(default_factory=lambda: array("i"))
    partners: "array[int] | None" = None
    detail: dict[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """One family of checks: it sees every example once, in order, and then says what it found."""

    def check(self, rows: list[Row]) -> None: ...

    def findings(self) -> Iterable[CheckFinding]: ...
