"""How the templates are written, and the words that they get."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from app.core.models import AskingStatus
from app.datasets import states
from app.web.render import environment

ROOT = Path(__file__).resolve().parents[3] / "templates"
MAX_LENGTH = 120


def test_no_line_is_too_long_to_read() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number} has {len(line)} characters"
        for path in sorted(ROOT.rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > MAX_LENGTH
    ]
    assert not long


def test_each_status_of_made_up_questions_has_its_words() -> None:
    assert list(states.ASKING) == list(AskingStatus)


# Parts of these are written for programmers, or are no words.
_FOR_PROGRAMS = (
    "app/adapters/export_card.py",
    "app/adapters/model_card.py",
    "app/core/db.py",
    "app/core/glossary.py",
    "app/core/plain_errors.py",
    "app/datasets/readers/blocks.py",
    "app/datasets/readers/model_chats.py",
    "app/evaluation/marks",
    "app/evaluation/own_questions/not_knowing.py",
    "app/notices/mlflow.py",
    "app/ops",
    "app/web/dependencies.py",
    "app/web/multipart.py",
    "app/web/v1",
    "worker/trainer/model.py",
)


def test_nobody_reads_marks_of_code_or_paths_of_files() -> None:
    raw = []
    for path in [
        *sorted((ROOT.parent / "app").rglob("*.py")),
        *sorted((ROOT.parent / "worker").rglob("*.py")),
    ]:
        name = str(path.relative_to(ROOT.parent))
        if name.startswith(_FOR_PROGRAMS):
            continue
        raw += [f"{name}: {text}" for text in _said(path) if "`" in text or "docs/" in text]
    for path in sorted(ROOT.rglob("*.html")):
        text = re.sub(r"\{#.*?#\}", "", path.read_text(), flags=re.DOTALL)
        raw += [f"{path.name}: {word}" for word in ("`", "docs/", "[Errno") if word in text]
    assert not raw


def _said(path: Path) -> Iterator[str]:
    """Return the texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


@pytest.mark.parametrize("asked", ["given.gone is none", "given.gone is not none", "gone is none"])
def test_a_name_that_is_not_defined_is_an_error_beside_none_too(asked: str) -> None:
    template = environment().from_string("{{ " + asked + " }}")
    with pytest.raises(UndefinedError):
        template.render(given=object())
    assert environment().from_string("{{ given is none }}").render(given=None) == "True"


def test_dark_is_one_thing_whether_chosen_or_the_devices() -> None:
    css = (ROOT.parent / "static" / "css" / "tokens.css").read_text()
    blocks = re.findall(r"@media screen[^{]*\{\s*:root[^{]*\{(.*?)\n  \}", css, flags=re.DOTALL)
    first, second = (re.findall(r"--[\w-]+: [^;]+;", block) for block in blocks)
    assert first == second
    assert len(first) > 15
