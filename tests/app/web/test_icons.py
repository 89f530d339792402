"""Icons: one set, vendored as it came, each of them used, each with its word."""

import hashlib
import re
from pathlib import Path

from app.web.render import STATIC_DIR, environment

FOLDER = STATIC_DIR / "vendor" / "lucide"
TEMPLATES = STATIC_DIR.parent / "templates"


def test_icons_are_those_that_are_used() -> None:
    used = set()
    for path in TEMPLATES.rglob("*.html"):
        used |= set(re.findall(r'ui\.icon\("([a-z-]+)"\)|, "([a-z-]+)"\)', path.read_text()))
    names = {name for pair in used for name in pair if name}
    drawn = set(
        re.findall(r"vendor/lucide/([a-z-]+)\.svg", (STATIC_DIR / "css/etude.css").read_text())
    )
    named = set(re.findall(r'icon\("([a-z-]+)"\)', (TEMPLATES / "ui.html").read_text()))
    there = {path.stem for path in FOLDER.glob("*.svg")}
    assert there <= names | drawn | named
    assert drawn | named <= there


def test_icons_are_as_they_came() -> None:
    readme = (STATIC_DIR / "vendor" / "README.md").read_text()
    for path in FOLDER.glob("*.svg"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert f"`lucide/{path.name}` | `{digest}`" in readme
        assert "ISC" in path.read_text()
    assert "ISC" in (FOLDER / "LICENSE").read_text()


def test_an_icon_is_silent_and_has_a_word_beside_it() -> None:
    shown = str(environment().globals["ui"].icon("house"))  # type: ignore[attr-defined]
    assert 'aria-hidden="true"' in shown
    assert "style=" not in shown
    assert "<path" in shown
    base = (Path(TEMPLATES) / "base.html").read_text()
    assert "{{- ui.icon(icon) }}{{ words }}</a>" in base
