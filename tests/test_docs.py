"""The documentation names what there is: each setting and hyperparameter, with its true default."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from app.core import glossary
from app.core.settings import Settings
from app.training.config import PRESETS, TrainConfig
from bench import pages_exempt, report

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the tables below a heading of configuration.md, by their first cell."""
    page = (ROOT / "docs/configuration.md").read_text()
    section = re.split(r"^## ", page.partition(f"## {heading}\n")[2], maxsplit=1, flags=re.M)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("` "): row[1:] for row in rows}


def shown(value: Any) -> str:
    if value == "":
        return "empty"
    if isinstance(value, float):
        return f"`{value:.10g}`"
    return f"`{value if isinstance(value, str | Path) else json.dumps(value)}`"


def limits(field: FieldInfo) -> str:
    words = {"gt": "more than", "ge": "from", "le": "to"}
    found = [
        f"{words[key]} {getattr(bound, key):,.10g}"
        for bound in field.metadata
        for key in words
        if hasattr(bound, key)
    ]
    choices = getattr(field.annotation, "__args__", ())
    if field.annotation is bool:
        choices = (True, False)
    return " ".join(found) or " ".join(shown(choice) for choice in choices)


def test_every_setting_is_in_the_docs_with_its_default() -> None:
    expected = {
        str(field.validation_alias or f"ETUDE_{name.upper()}"): shown(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert {name: row[0] for name, row in table("Settings").items()} == expected


def test_every_setting_is_explained() -> None:
    assert all(len(row[1]) > 10 for row in table("Settings").values())


def test_every_hyperparameter_is_in_the_docs_with_its_numbers() -> None:
    expected = {
        name: [
            str(field.title),
            limits(field),
            shown(field.default),
            *(shown(getattr(preset.config, name)) for preset in PRESETS.values()),
        ]
        for name, field in TrainConfig.model_fields.items()
    }
    assert {name: row[:6] for name, row in table("Hyperparameters").items()} == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_file_names_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    files = re.findall(
        r"`((?:app|worker|tests|docs|examples|bench|templates|static|migrations)/[\w./-]*)`", text
    )
    missing += [name for name in files if not (ROOT / name).exists()]
    assert missing == []


def test_the_glossary_page_is_written_from_the_glossary() -> None:
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    assert page == glossary.as_markdown(), "the glossary has changed: make glossary"


def test_the_glossary_is_in_order_and_each_term_has_a_sentence() -> None:
    words = [word.lower() for word in glossary.TERMS]
    assert words == sorted(words)
    assert all(term.meaning.endswith(".") for term in glossary.TERMS.values())


def test_the_measured_figures_are_those_of_the_result_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, picture = tmp_path / "performance.md", tmp_path / "performance.svg"
    page.write_text(report.PAGE.read_text())
    before = {report.PAGE.read_text(), report.PICTURE.read_text()}
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "PICTURE", picture)
    report.write()  # `python -m bench.report` does the same to the page itself
    assert {page.read_text(), picture.read_text()} == before


def test_what_the_pages_are_not_judged_by_is_said() -> None:
    said = (
        (ROOT / "docs/performance.md").read_text().partition("Not judged: ")[2].partition("\n")[0]
    )
    for path, rules in pages_exempt.OTHERS_FAULTS.items():
        assert all(rule in said for rule in rules)
        assert f"`{path}`" in said
    for path in pages_exempt.HEAVY:
        assert f"`{path}`" in said
    assert "the paint of a first visit" in said


def test_nothing_stands_twice_in_the_changelog() -> None:
    entries = re.split(r"^(?=- )", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    entries = [each.strip() for each in entries if each.startswith("- ")]
    assert [each for each, number in Counter(entries).items() if number > 1] == []


def test_every_requirement_of_security_says_where_it_is_met() -> None:
    page = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"^\| (SEC-\d\d) \|", page, re.MULTILINE)
    assert rows == [f"SEC-{number:02}" for number in range(1, 55)]
