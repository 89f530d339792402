"""Lists as their addresses ask for them: whose, found by a word, in which order and state."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.models import Adapter, Job, JobStatus, ModelStatus, Release, Role, User, VersionStatus
from app.people import auth
from app.web import lists
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_job,
    make_user,
)

Shown = Callable[[str], list[str]]
_LINK = r'<a (?:class="title" )?href="/(?:jobs|versions|adapters)/\d+">([^<]+)</a>'


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db, email="ana@house.example", role=Role.ADMIN)


@pytest.fixture
def colleague(db: Session, owner: User) -> User:
    return make_user(db, email="ben@house.example")


@pytest.fixture
def shown(client: TestClient, db: Session, owner: User) -> Shown:
    """The names that stand in a list, in order."""
    sign_in(client, db, owner)

    def names(address: str) -> list[str]:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        listed = answer.text.partition('id="list"')[2]
        return re.findall(_LINK, listed)

    return names


@pytest.fixture
def jobs(db: Session, owner: User, colleague: User) -> list[Job]:
    made = []
    for number, name in enumerate(["Nights", "days", "Falls 100%", "Fall_s", "Pain", "Baths"]):
        user = owner if number % 2 else colleague
        version = make_dataset_version(db, user=user, name=f"Data of {name}")
        status = JobStatus.FAILED if number == 2 else JobStatus.SUCCEEDED
        made.append(make_job(db, user=user, version=version, name=name, status=status))
    return made


def test_jobs_are_found_by_what_their_address_asks_for(jobs: list[Job], shown: Shown) -> None:
    assert shown("/jobs") == ["Baths", "Pain", "Fall_s", "Falls 100%", "days", "Nights"]
    assert shown("/jobs?sort=oldest")[0] == "Nights"
    assert shown("/jobs?sort=name")[:3] == ["Baths", "days", "Fall_s"]
    assert shown("/jobs?mine=1") == ["Baths", "Fall_s", "days"]
    assert shown("/jobs?show=failed") == ["Falls 100%"]
    assert shown("/jobs?show=open") == []
    assert shown("/jobs?q=FALL") == ["Fall_s", "Falls 100%"]
    assert shown("/jobs?q=100%25+fall") == ["Falls 100%"], "words in any order"
    assert shown("/jobs?q=l_s") == ["Fall_s"], "a sign of LIKE is a letter"
    assert shown("/jobs?q=fall&mine=1&show=finished") == ["Fall_s"]


def test_an_address_that_means_nothing_shows_the_list(jobs: list[Job], shown: Shown) -> None:
    for address in (
        "/jobs?sort=x&show=y&mine=z&page=-1",
        "/jobs?page=99999999999999999999",
        "/jobs?page=²",
        "/jobs?before=7",
        "/jobs?q=%20%20",
        "/jobs?binned=x&erased=",
    ):
        assert len(shown(address)) == len(jobs), address


def test_the_form_says_what_the_address_asks_for(
    client: TestClient, jobs: list[Job], shown: Shown
) -> None:
    assert len(shown("/jobs?mine=1&q=fall&show=finished&sort=name")) == 1
    html = client.get("/jobs?mine=1&q=fall&show=finished&sort=name").text
    assert 'value="fall"' in html
    assert 'name="mine" value="1" checked' in html
    assert '<option value="finished" selected>' in html
    assert '<option value="name" selected>' in html
    assert "1 job<" in html
    nothing = client.get("/jobs?q=nobody").text
    assert "Nothing here matches." in nothing
    assert 'data-list-stream="/streams/jobs/events"' in nothing


def test_few_rows_need_no_form_and_an_empty_list_is_listened_to(
    client: TestClient, db: Session, owner: User, shown: Shown
) -> None:
    for noun, address in (
        ("jobs", "/jobs"),
        ("data", "/datasets"),
        ("adapters", "/adapters"),
        ("models", "/models"),
    ):
        assert shown(address) == []
        html = client.get(address).text
        assert f'data-list-stream="/streams/{noun}/events" data-is-empty' in html
        assert "data-list-form" not in html
    make_job(db, user=owner)
    html = client.get("/jobs").text
    assert "data-is-empty" not in html
    assert "data-list-form" not in html


def test_data_is_found_by_what_its_address_asks_for(
    client: TestClient, db: Session, owner: User, colleague: User, shown: Shown
) -> None:
    make_dataset_version(db, user=owner, name="Ready", num_train=5)
    make_dataset_version(db, user=colleague, name="Larger", num_train=50)
    make_dataset_version(db, user=owner, name="Columns", status=VersionStatus.MAPPING)
    make_dataset_version(db, user=owner, name="Held", decided=False)
    make_dataset_version(db, user=owner, name="Broken", status=VersionStatus.FAILED)
    assert shown("/datasets") == ["Broken", "Held", "Columns", "Larger", "Ready"]
    assert shown("/datasets?mine=1") == ["Broken", "Held", "Columns", "Ready"]
    assert shown("/datasets?show=waiting") == ["Broken", "Held", "Columns"]
    assert shown("/datasets?show=ready&sort=size") == ["Larger", "Ready"]
    assert shown("/datasets?q=rok") == ["Broken"]


def test_adapters_are_found_by_what_their_address_asks_for(
    db: Session, owner: User, colleague: User, shown: Shown
) -> None:
    for number, name in enumerate(["Small", "Large", "Released"]):
        user = colleague if number == 0 else owner
        made: Adapter = make_adapter(db, user=user, name=name)
        made.size_bytes = 9 if name == "Large" else 7
        made.release = Release.RELEASED if name == "Released" else Release.PRIVATE
    db.commit()
    assert shown("/adapters") == ["Released", "Large", "Small"]
    assert shown("/adapters?sort=size")[0] == "Large"
    assert shown("/adapters?show=released") == ["Released"]
    assert shown("/adapters?mine=1&sort=oldest") == ["Large", "Released"]
    assert shown("/adapters?show=untrained") == []


def test_starting_models_are_found_by_what_their_address_asks_for(
    client: TestClient, db: Session, shown: Shown
) -> None:
    make_base_model(db, name="house/small")
    make_base_model(db, name="house/broken", status=ModelStatus.FAILED)
    shown("/models")
    assert re.findall(r'id="model-\d+">([^<]+)', client.get("/models?sort=name").text) == [
        "broken",
        "small",
    ]
    assert re.findall(r'id="model-\d+">([^<]+)', client.get("/models?show=failed").text) == [
        "broken"
    ]


def test_an_address_keeps_what_was_asked_for_on_other_pages(
    db: Session, owner: User, client: TestClient
) -> None:
    version = make_dataset_version(db, user=owner)
    for number in range(lists.PAGE_ROWS + 1):
        make_job(db, user=owner, version=version, name=f"Try {number}")
    sign_in(client, db, owner)
    html = client.get("/jobs?q=try&mine=1&sort=oldest").text
    assert f"1–{lists.PAGE_ROWS} of" in html
    assert 'href="/jobs?q=try&amp;sort=oldest&amp;mine=1&amp;page=2"' in html
    assert "Try 50" in client.get("/jobs?q=try&sort=oldest&mine=1&page=2").text


# --- the bin -------------------------------------------------------------------------------------


def test_a_deleted_job_can_be_had_back_at_once(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(db, user=owner, name="Nights", status=JobStatus.FAILED)
    sign_in(client, db, owner)
    gone = client.post(f"/jobs/{job.id}/delete")
    assert gone.url.path == "/jobs"
    assert "“Nights” is in the bin until" in gone.text
    assert f'action="/bin/jobs/{job.id}/restore"' in gone.text
    address = client.get(f"/jobs/{job.id}")
    assert address.status_code == 404
    assert "“Nights” is in the bin. Restore it there" in address.text
    assert "Nights" in client.get("/bin").text
    back = client.post(f"/bin/jobs/{job.id}/restore")
    assert (back.url.path, back.status_code) == (f"/jobs/{job.id}", 200)
    assert "in the bin" not in client.get(f"/jobs?binned={job.id}").text, "it is not any more"
    assert "The bin is empty." in client.get("/bin").text


def test_a_deleted_adapter_can_be_had_back_or_erased(
    client: TestClient, db: Session, owner: User
) -> None:
    adapter = make_adapter(db, user=owner, name="Nights")
    number = adapter.id
    sign_in(client, db, owner)
    page = client.get(f"/adapters/{adapter.id}").text
    assert "erased at once and do not come back" in page
    gone = client.post(f"/adapters/{adapter.id}/delete")
    assert "“Nights” is in the bin until" in gone.text
    missing = client.get(f"/adapters/{adapter.id}/ask")
    assert (missing.status_code, '<a class="button" href="/bin">' in missing.text) == (404, True)
    assert "Its trained model is in the bin" in client.get(f"/jobs/{adapter.job_id}").text
    assert client.post(f"/bin/adapters/{adapter.id}/restore").status_code == 200
    client.post(f"/adapters/{adapter.id}/delete")
    erased = client.post(f"/bin/adapters/{adapter.id}/erase")
    assert "The bin is empty." in erased.text
    db.expunge_all()
    assert db.get(Adapter, number) is None


def test_at_once_is_at_once(client: TestClient, db: Session, owner: User) -> None:
    adapter = make_adapter(db, user=owner)
    sign_in(client, db, owner)
    gone = client.post(f"/adapters/{adapter.id}/delete", data={"at_once": "1"})
    assert "Erased for good." in gone.text
    assert "Undo" not in gone.text
    gone = client.post(f"/jobs/{adapter.job_id}/delete", data={"at_once": "1"})
    assert "Erased for good." in gone.text
    assert "The bin is empty." in client.get("/bin").text
    version = make_dataset_version(db, user=owner)
    gone = client.post(f"/datasets/{version.dataset_id}/delete")
    assert "The data was erased for good" in gone.text


def test_undo_twice_leads_to_it_twice(client: TestClient, db: Session, owner: User) -> None:
    """Pressed twice, or after a colleague: it is back, which is what was wanted."""
    adapter = make_adapter(db, user=owner)
    sign_in(client, db, owner)
    for noun, number in (("adapters", adapter.id), ("jobs", adapter.job_id)):
        client.post(f"/{noun}/{number}/delete")
        for _ in range(2):
            back = client.post(f"/bin/{noun}/{number}/restore")
            assert (back.url.path, back.status_code) == (f"/{noun}/{number}", 200)
    client.post(f"/adapters/{adapter.id}/delete", data={"at_once": "1"})
    late = client.post(f"/bin/adapters/{adapter.id}/restore")
    assert late.status_code == 404
    assert "no longer in the bin" in late.text


def test_only_the_word_for_it_erases_at_once(client: TestClient, db: Session, owner: User) -> None:
    adapter = make_adapter(db, user=owner)
    sign_in(client, db, owner)
    for path in (f"/adapters/{adapter.id}/delete", f"/jobs/{adapter.job_id}/delete"):
        assert client.post(path, data={"at_once": "no"}).status_code == 422
        assert client.post(path, data={"at_once": ""}).status_code == 200
    assert "The bin is empty." not in client.get("/bin").text


def test_who_may_not_restore_is_not_offered_it(
    client: TestClient, db: Session, owner: User
) -> None:
    viewer = make_user(db, role=Role.VIEWER)
    job = make_job(db, user=owner, status=JobStatus.FAILED, binned_at=datetime.now(UTC))
    sign_in(client, db, viewer)
    assert "Undo" not in client.get(f"/jobs?binned={job.id}").text
    assert "Erase now" not in client.get("/bin").text
    for operation in ("restore", "erase"):
        assert client.post(f"/bin/jobs/{job.id}/{operation}").status_code == 403


def test_a_program_erases_at_once(client: TestClient, db: Session, owner: User) -> None:
    adapter = make_adapter(db, user=owner)
    number = adapter.id
    token = auth.create_token(db, owner, "ward")
    db.commit()
    answer = client.delete(
        f"/v1/models/{adapter.public_name}", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.json() == {"id": adapter.public_name, "object": "model", "deleted": True}
    db.expunge_all()
    assert db.get(Adapter, number) is None
