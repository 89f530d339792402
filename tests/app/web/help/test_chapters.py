"""The help: each page has a part of it, links hold, and what is searched for stands at the top."""

import ast
import re
from pathlib import Path

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import glossary
from app.web.help import markdown, places, search
from app.web.help.chapters import CHAPTERS, DOCS, GLOSSARY, PICTURES, STEPS, Chapter
from tests.app.web.pages import sign_in
from tests.factories import make_user

ROOT = Path(__file__).resolve().parents[4]
TEMPLATES = ROOT / "templates"
WRITTEN = [chapter for name, chapter in CHAPTERS.items() if name != GLOSSARY]


def anchors(name: str) -> set[str]:
    if name == GLOSSARY:
        return {markdown.term_anchor(word) for word in glossary.TERMS}
    return {section.anchor for section in markdown.sections(CHAPTERS[name])}


def test_every_page_has_its_part_of_the_help() -> None:
    pages = {
        str(path.relative_to(TEMPLATES))
        for path in TEMPLATES.rglob("*.html")
        if re.search(r'{% extends "(base|datasets/tab)\.html" %}', path.read_text(encoding="utf-8"))
    } - {"datasets/tab.html"}
    assert set(places.PLACES) == pages
    for template in pages:
        chapter, section = places.of(template)
        assert chapter in CHAPTERS, template
        assert not section or section in anchors(chapter), f"{template}: {chapter}#{section}"


@pytest.mark.parametrize("chapter", WRITTEN, ids=lambda chapter: chapter.name)
def test_links_name_chapters_and_never_files(chapter: Chapter) -> None:
    for section in markdown.sections(chapter):
        for picture in re.findall("<img[^>]*>", section.html):
            assert re.search(r'alt="[^"]+" .*width="\d{3,4}" height="\d{3,4}"', picture), picture
        for address in re.findall(r'(?:href|src)="([^"]*)"', section.html):
            if address.startswith("/help/pictures/"):
                assert (PICTURES / address.rpartition("/")[2]).is_file(), address
            elif address.startswith("/help/"):
                name, _, anchor = address.removeprefix("/help/").partition("#")
                assert name in CHAPTERS, address
                assert not anchor or anchor in anchors(name), address
            elif address.startswith("#"):
                assert address[1:] in anchors(chapter.name), address
            else:
                assert address.startswith(("https://", "http://")), address


# deploy/ and examples/ are there for whoever runs Etude; a module, as of “python -m”, is no file.
_FILE_OF_CHECKOUT = re.compile(
    r"\b(?:app|bench|docs|migrations|static|templates|tests|worker)/[\w./-]*\w\.?\w*"
    r"|\b(?!README)[\w-]+\.md\b|\b\w+\.py\b"
)


@pytest.mark.parametrize("chapter", WRITTEN, ids=lambda chapter: chapter.name)
def test_a_chapter_names_no_file_that_its_reader_does_not_have(chapter: Chapter) -> None:
    for section in markdown.sections(chapter):
        shown = re.sub(r"<pre>.*?</pre>", "", section.html, flags=re.DOTALL)
        assert _FILE_OF_CHECKOUT.findall(shown.replace("examples/demo.py", "")) == []
        assert not re.search("[\ue000-\ue00f]", shown + section.text)
        assert "()" not in shown
        # What is found by a search is what is shown.
        assert not re.search(r"\b(app|tests|worker)/\w+/", section.text)


def test_files_are_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.md").write_text(
        "It holds (`tests/a.py`,\n`tests/b.py::test_c` †). See [security.md](security.md) and\n"
        "`tests/a.py`, `tests/b.py`. It is (`app/x.py`, on a clock) `worker/y.py` that counts."
    )
    monkeypatch.setattr(markdown, "DOCS", tmp_path)
    (section,) = markdown.sections(Chapter("some", "some.md", "Some", ""))
    assert " ".join(re.sub("<[^>]+>", "", section.html).split()) == (
        "It holds. See “Security” and tests. It is (on a clock) Etude’s code that counts."
    )


@pytest.mark.parametrize("chapter", WRITTEN, ids=lambda chapter: chapter.name)
def test_a_chapter_brings_nothing_that_the_policy_refuses(chapter: Chapter) -> None:
    for section in markdown.sections(chapter):
        assert not re.search(r"<[^>]*\s(style|on\w+)=|<script", section.html)


def test_html_of_a_page_is_shown_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.md").write_text(
        "# Bad\n<script>alert(1)</script> [x](javascript:alert(1)) ![y](../../etc/passwd)\n\n"
        "| a | b |\n| --: | --- |\n| 1 | [up](../app/main.py) |\n"
    )
    monkeypatch.setattr(markdown, "DOCS", tmp_path)
    (section,) = markdown.sections(Chapter("bad", "bad.md", "Bad", ""))
    assert "<script" not in section.html
    assert "href" not in section.html
    assert "<img" not in section.html
    assert "style" not in section.html
    assert '<td class="num">1</td>' in section.html
    assert '<div class="table-scroll" tabindex="0"><table class="table">' in section.html
    assert section.html.count("</table></div>") == 1
    assert "&lt;div" not in section.html
    assert "<td>up</td>" in section.html


@pytest.mark.parametrize(
    ("asked", "address"),
    [
        ("what is an adapter", "/help/glossary#adapter"),
        ("forgot my password", "/help/account#signing-in"),
        ("pausing a job", "/help/train#pausing-and-stopping"),
        ("names of patients", "/help/personal-details"),
        ("backup", "/help/administrators#backups"),
        ("how many answers are right", "/help/result#how-many-answers-are-right"),
        ("which files", "/help/formats"),
        ("quarant", "/help/glossary#quarantined"),
        ("match columns", "/help/data#matching-columns"),
    ],
)
def test_what_is_searched_for_is_among_the_first(asked: str, address: str) -> None:
    assert address in [found.address for found in search.find(asked)[:3]]


@pytest.mark.parametrize("asked", ["", "  ", "the of a", "xqzzy", "(", "\\", "a" * 10_000])
def test_what_is_not_there_is_not_found(asked: str) -> None:
    assert search.find(asked) == []


def test_every_picture_of_a_guide_is_there_and_small() -> None:
    named = set()
    for chapter in WRITTEN:
        text = (DOCS / chapter.file).read_text(encoding="utf-8")
        if chapter.file.startswith("guide/"):
            for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
                assert len(words) > 10, f"{chapter.file}: {target} says nothing to who cannot see"
                named.add(Path(target).name)
    there = {path.name: path.stat().st_size for path in PICTURES.glob("*")}
    assert named == set(there)
    assert sum(there.values()) < 2_000_000


def test_the_image_and_the_application_read_the_same_pages() -> None:
    assert DOCS == ROOT / "docs"
    assert "\nCOPY docs docs\n" in (ROOT / "Dockerfile").read_text()
    assert "!docs" in (ROOT / ".dockerignore").read_text().splitlines()


# --- as people meet it ---------------------------------------------------------------------


def test_chapters_are_read_also_by_who_cannot_sign_in(client: TestClient) -> None:
    for name in CHAPTERS:
        answer = client.get(f"/help/{name}", follow_redirects=False)
        assert answer.status_code == 200, name
    assert client.get("/help").status_code == 200
    sign_in_page = client.get("/sign-in").text
    assert 'href="/help/account#signing-in"' in sign_in_page


@pytest.mark.parametrize(
    "path",
    [
        "/help/no-such-chapter",
        "/help/guide%2Fdata.md",
        "/help/..%2F..%2Fpyproject.toml",
        "/help/pictures/..%2F..%2F..%2Fpyproject.toml",
        "/help/pictures/no.webp",
        "/help/panel/no-such-chapter",
    ],
)
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"accept": "text/html"}).status_code == 404


def test_the_question_mark_opens_the_part_of_its_page(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    page = client.get("/datasets/new").text
    asked = re.search(r'class="help-mark"[^>]*hx-get="([^"]+)"', page)
    assert asked is not None
    panel = client.get(asked[1].replace("&amp;", "&")).text
    assert "Adding a file" in panel
    assert "Matching columns" not in panel  # of the next page
    assert "<html" not in panel
    # A link in the panel opens there, so that nobody loses a form that is half filled in.
    assert 'hx-get="/help/panel/formats?part="' in panel
    # An identifier of the help could be one of the page's own.
    assert " id=" not in panel


def test_the_search_answers_in_the_panel_and_as_a_page(client: TestClient, db: Session) -> None:
    sign_in(client, db, make_user(db))
    page = client.get("/help/search", params={"q": "loss <b>"}).text
    assert 'href="/help/glossary#loss"' in page
    assert "loss &lt;b&gt;" in page
    panel = client.get("/help/panel/search", params={"q": "loss"}).text
    assert 'hx-get="/help/panel/glossary?part=loss"' in panel
    meaning = client.get("/help/panel/glossary", params={"part": "loss"}).text
    assert "How surprised the model is" in meaning
    assert "LoRA" not in meaning


def test_the_steps_of_the_way_have_a_chapter_each() -> None:
    names = ["start", "data", "check", "personal-details", "train", "result", "use"]
    assert [chapter.name for chapter in STEPS] == names
    for chapter in STEPS:
        words = (DOCS / chapter.file).read_text(encoding="utf-8").split()
        assert len(words) < 600, f"{chapter.file} is longer than anybody reads between two patients"


def test_nobody_is_sent_to_a_file() -> None:
    """Sentences for people and programs name chapters; only comments and docstrings name files."""
    named = [
        f"{path.relative_to(ROOT)}: {text}"
        for folder in ("app", "worker")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in _texts(path)
        if re.search(r"\bdocs/[\w-]+\.md", text)
    ]
    assert named == []


def _texts(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]
