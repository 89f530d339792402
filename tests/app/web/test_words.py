"""What a person reads of what a job makes: “your trained model”, and its term once beside it."""

import ast
import re
from pathlib import Path

import pytest

from app.jobs import progress
from app.web.render import ROOT, parameters

# The forms that programs take it in are called by their terms, and files are for other programs.
_TERMS_STAND = {"templates/adapters/use.html", "templates/help/api.html"}
_FOR_PROGRAMS = (
    "app/adapters/exports.py",
    "app/adapters/export_card.py",
    "app/adapters/model_card.py",
    "app/adapters/programs.py",
    "app/core/glossary.py",
    "app/core/models",
    "app/base_models/wanted_files.py",
    "app/evaluation/report.py",
    "app/machines/prometheus.py",
    "app/ops",
    "app/training",
    "app/web/v1",
)
_WORD = re.compile(r"(?<![/\w.{\-#“])[Aa]dapters?\b(?![\w.\-/:])")
# Names of audit rows, options and addresses are no words: these begin with a capital.
_SENTENCE = re.compile(r"^(?:[A-Z“].* |Adapters?$)")


def test_templates_say_trained_model() -> None:
    said = []
    for path in sorted((ROOT / "templates").rglob("*.html")):
        name = str(path.relative_to(ROOT))
        if name in _TERMS_STAND:
            continue
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|<[^>]*>", "", path.read_text(), flags=re.DOTALL)
        text = text.replace('ui.term("adapter")', "")
        text = re.sub(r"\{\{.*?\}\}", _only_words, text, flags=re.DOTALL)
        said += [f"{name}: {line.strip()}" for line in text.splitlines() if _WORD.search(line)]
    assert not said, "\n".join(said)


def _only_words(expression: re.Match[str]) -> str:
    """Keep of an expression the strings that hold words."""
    return " ".join(text for text in re.findall(r'"([^"]*)"', expression[0]) if " " in text)


def test_sentences_say_trained_model() -> None:
    said = []
    for path in sorted((ROOT / "app").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if not name.startswith(_FOR_PROGRAMS):
            said += [f"{name}: {text}" for text in _sentences(path) if _WORD.search(text)]
    assert not said, "\n".join(said)


def _sentences(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docs
        and _SENTENCE.match(node.value)
    ]


@pytest.mark.parametrize(
    ("count", "words"),
    [(134_515_008, "135 million"), (999_400_000, "999 million"), (999_900_000, "1.0 billion"),
     (1_711_376_384, "1.7 billion")],
)  # fmt: skip
def test_a_models_size_is_in_words(count: int, words: str) -> None:
    assert parameters(count) == words


@pytest.mark.parametrize(
    ("hours", "words"), [(23, "about 23 h"), (24, "about 1 day"), (36, "about 1.5 days")]
)
def test_days_are_counted_as_people_count(hours: int, words: str) -> None:
    assert progress.duration(hours * 3600) == words
