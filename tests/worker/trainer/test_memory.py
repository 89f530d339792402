"""What the planner says that a job adds to an idle trainer's memory is what it adds."""

import pytest

from bench import memory


@pytest.fixture
def one_core() -> None:
    """All cores: what a process takes depends on their number."""


# The other shapes of the grid take minutes.
IN_SHORT = ("wide",)
NAMES = [pytest.param(n, marks=[] if n in IN_SHORT else [pytest.mark.long]) for n in memory.GRID]


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_foretold_within_15_percent(name: str) -> None:
    result = memory.measured(memory.GRID[name])
    assert result["measured"] > 1024**3
    assert 0.85 < result["predicted"] / result["measured"] < 1.15
