"""Whatever people, files and models have said is text on every page, and never part of it."""

from html.parser import HTMLParser
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import Base
from app.web import render
from tests.app.web.pages import sign_in
from tests.security.full_house import addresses, furnish

# Out of text, of attributes with either quote or none, of comments, of elements that hold text
# alone, of scripts and styles, of JSON in a page; and what a template engine would work out.
CORPUS = (
    "<probe-a>", '"><probe-b>', "'><probe-c>", "--><probe-d>", "</title><probe-e>",
    "</textarea><probe-f>", "</script><probe-g>", "</style><probe-h>", "]]><probe-i>",
    '" onprobe="1', "' onprobe='1", "` onprobe=1 ", "<svg/onload=probe()>", "<img src=x onprobe=1>",
    "<a href=javascript:probe()>", "<iframe srcdoc='<probe-j>'>", "<math><mi//xlink:href='data:x'>",
    "{{ 7043 * 9173 }}", "{% raw %}", "${7043 * 9173}", "<!--", "<![CDATA[",
    "<probe-k\x0bonprobe=1>",
    "\u2028<probe-l>", "＜probe-m＞", "&lt;probe-n&gt;", "<%00probe-o>", "\\u003cprobe-p\\u003e",
)  # fmt: skip
PAYLOAD = " ".join(CORPUS)
LINK = "javascript:probe()"
# What is no text of people: keys, hashes, names of files of ours, what is set by our code alone.
OURS = {
    *("token_hash", "password_hash", "storage_key", "sha256", "manifest_sha256", "public_id"),
    *("folder", "boot_id", "key", "secret", "prefix", "kind", "address", "worker_id", "process"),
    *("group_key", "config_hash", "link", "version_num", "licence_key"),
}
_FORBIDDEN_LINKS = ("javascript:", "data:text", "vbscript:")


class Reader(HTMLParser):
    """Collects what a page has that no template of ours writes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "probe" in tag or tag in ("iframe", "math", "object", "embed"):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if name.startswith("on") or name == "srcdoc":
                self.found.append(f"<{tag} {name}>")
            is_link = name in ("href", "src", "action", "formaction", "xlink:href")
            if is_link and (value or "").strip().lower().startswith(_FORBIDDEN_LINKS):
                self.found.append(f"<{tag} {name}={value}>")
            self.words.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def faults(html: str) -> tuple[list[str], bool]:
    """Return what the corpus has made of a page, and whether the page shows any of it."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    said = " ".join(reader.words)
    if "64605439" in said and "7043 * 9173" not in said:
        reader.found.append("a template of theirs was worked out")
    return reader.found, "probe" in said


def poison(db: Session) -> list[str]:
    """Write the corpus into every column of every row that holds words; returns which."""
    filled = []
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            value = _poisoned(column)
            if value is None or column.name in OURS or column.primary_key or column.foreign_keys:
                continue
            savepoint = db.begin_nested()
            try:
                changed = db.execute(table.update().values({column: value})).rowcount  # type: ignore[attr-defined]
                savepoint.commit()
            except sa.exc.DatabaseError:  # it takes only certain values, or must differ
                savepoint.rollback()
                continue
            if changed:
                filled.append(f"{table.name}.{column.name}")
    return filled


def _poisoned(column: sa.Column[Any]) -> Any:
    kind = column.type
    if isinstance(kind, sa.Enum):
        return None
    if isinstance(kind, sa.String):
        if "url" in column.name:
            return LINK
        # Where each must differ, by the row's number.
        number = column.table.c.get("id")
        same = sa.literal(PAYLOAD)
        return same if number is None else same + sa.cast(number, sa.String)
    return None


# Of examples, samples and what else is stored as JSON: each text in it.
def poison_json(db: Session) -> list[str]:
    filled = []
    texts = {
        "example": ("messages",),
        "adapter": ("samples",),
        "question_list": ("columns", "warnings"),
        "question_answer": ("cells",),
        "dataset_version": ("preview",),
    }
    for name, columns in texts.items():
        table = Base.metadata.tables[name]
        for column in columns:
            if column not in table.c:
                continue
            keys = list(table.primary_key.columns)
            for row in db.execute(sa.select(*keys, table.c[column])).all():
                said = _deep(row[-1])
                where = [key == value for key, value in zip(keys, row[:-1], strict=True)]
                db.execute(table.update().where(*where).values({column: said}))
                filled.append(f"{name}.{column}")
    return sorted(set(filled))


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: said if key == "role" else _deep(said) for key, said in value.items()}
    if isinstance(value, list):
        return [_deep(said) for said in value]
    return PAYLOAD if isinstance(value, str) else value


@pytest.mark.timeout(300)
def test_nothing_that_is_stored_becomes_part_of_a_page(client: TestClient, db: Session) -> None:
    admin = furnish(db)
    pages = addresses(db)
    filled = poison(db) + poison_json(db)
    db.commit()
    assert len(filled) > 60, filled
    sign_in(client, db, admin)
    read, showing = 0, 0
    for address in pages:
        answer = client.get(address, follow_redirects=False)
        assert answer.status_code < 500, address
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        assert answer.status_code != 422, address
        found, shows = faults(answer.text)
        assert found == [], address
        read, showing = read + 1, showing + shows
    assert read > 45
    assert showing > 25, "the corpus is hardly shown: what was filled is not what pages read"


def test_a_form_that_is_wrong_comes_back_as_text(client: TestClient, db: Session) -> None:
    sign_in(client, db, furnish(db))
    forms = {
        "/sign-in": {"email": PAYLOAD, "password": "x", "next": PAYLOAD},
        "/people": {"email": PAYLOAD, "name": PAYLOAD, "role": PAYLOAD},
        "/webhooks": {"name": PAYLOAD, "url": LINK},
        "/patterns": {"name": PAYLOAD, "kind": PAYLOAD, "pattern": "(" + PAYLOAD},
        "/models": {"path": PAYLOAD, "name": PAYLOAD},
    }
    for address, form in forms.items():
        answer = client.post(address, data=form)
        assert 400 <= answer.status_code < 500, address
        found, _ = faults(answer.text)
        assert found == [], address


def test_the_corpus_finds_a_page_that_does_not_escape(
    client: TestClient, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, db, furnish(db))
    poison(db)
    db.commit()
    monkeypatch.setattr(render.environment(), "autoescape", False)
    render.environment().cache.clear()  # type: ignore[union-attr]
    try:
        found, _ = faults(client.get("/datasets").text)
    finally:
        render.environment().cache.clear()  # type: ignore[union-attr]
    assert "<probe-a>" in found
