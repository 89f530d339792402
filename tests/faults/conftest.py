"""Houses for tests that break things: one with a worker for a whole file, others to be made."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.ops.embedded.postgres import Postgres
from tests.faults.house import House


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="walk every failpoint in every way")
    parser.addoption("--only-fault", default="", help="failpoints with this in their name=action")
    parser.addoption("--faults-seed", type=int, default=0, help="which part is walked otherwise")


@pytest.fixture
def all_faults(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all-faults", default=False))


@contextmanager
def opened(postgres: Postgres, with_worker: bool = True, **environment: str) -> Iterator[House]:
    # Sockets have short names.
    folder = Path(tempfile.mkdtemp(prefix="etude-h"))
    house = House(postgres, folder, **environment)
    try:
        house.start(with_worker)
        yield house
    finally:
        house.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def house(postgres: Postgres) -> Iterator[House]:
    """A house with a worker that lives as long as the tests of a file."""
    with opened(postgres) as made:
        yield made


@pytest.fixture(autouse=True)
def left_in_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test leaves the file's house as it found it: no job running, no failpoint armed."""
    yield
    if "house" in request.fixturenames:
        house: House = request.getfixturevalue("house")
        house.check_nothing_runs()
        assert [path for path in house.failpoints.iterdir() if path.suffix != ".struck"] == []
