"""docs/reliability.md says of each of the 58 faults what happens and which test has seen it."""

import ast
import re

from tests.worker.conftest import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()


def rows() -> dict[str, list[str]]:
    lines = [line for line in PAGE.splitlines() if re.match(r"\| F\d\d ", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 4 for row in cells)
    return {row[0][:3]: row for row in cells}


def test_every_fault_has_a_row_with_an_outcome() -> None:
    found = rows()
    assert list(found) == [f"F{number:02}" for number in range(1, 59)]
    for number, (_, what, tests, result) in found.items():
        assert result, number
        assert what or not tests, number


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 60
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


def test_every_numbered_test_stands_in_its_rows() -> None:
    found = rows()
    for path in (ROOT / "tests/faults").glob("test_*.py"):
        for name in re.findall(r"^def (test_f\d\d\w*)", path.read_text(), re.M):
            prefix = re.match(r"test((?:_f\d\d)+)", name)
            assert prefix is not None
            for number in re.findall(r"f(\d\d)", prefix[1]):
                assert f"::{name}`" in found[f"F{number}"][2], (name, number)
