"""What ruff has no rule for; make security has more of them (rules/etude.yml)."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
MODULES = sorted([*(ROOT / "app").rglob("*.py"), *(ROOT / "worker").rglob("*.py")])
DECLARED_SAFE = re.compile(r"\|\s*safe\b|autoescape\s+false")


def calls(source: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def names_a_hub_model(call: ast.Call) -> bool:
    """Say whether a model is loaded by a name, and not from a folder of ours."""
    is_loading = isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
    return is_loading and bool(call.args) and isinstance(call.args[0], ast.Constant | ast.JoinedStr)


def runs_its_code(call: ast.Call) -> bool:
    return any(
        word.arg == "trust_remote_code"
        and not (isinstance(word.value, ast.Constant) and word.value.value is False)
        for word in call.keywords
    )


def test_no_template_declares_text_safe() -> None:
    assert len(TEMPLATES) > 40
    found = [path.name for path in TEMPLATES if DECLARED_SAFE.search(path.read_text())]
    assert found == []
    assert DECLARED_SAFE.search("{{ text |safe }}")


def test_models_come_from_folders_and_run_no_code_of_their_own() -> None:
    assert len(MODULES) > 200
    for path in MODULES:
        found = calls(path.read_text())
        assert not any(map(names_a_hub_model, found)), path
        assert not any(map(runs_its_code, found)), path
    (bad,) = calls('AutoModel.from_pretrained("a/b", trust_remote_code=True)')
    assert names_a_hub_model(bad)
    assert runs_its_code(bad)
