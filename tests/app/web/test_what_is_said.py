"""What pages say of data, jobs, models and adapters is what is so, on every page alike."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.base_models import registry as base_models
from app.core.models import (
    Adapter,
    DatasetVersion,
    Desired,
    Example,
    Job,
    JobStatus,
    LearningCurve,
    ModelStatus,
    Notice,
    NoticeKind,
    PrivacyPattern,
    PrivacyReview,
    Release,
    ReviewStatus,
    Role,
    User,
    VoteRound,
)
from app.datasets import states
from tests.app.datasets.test_lengths import byte_model
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_job,
    make_user,
    pass_gate,
)
from tests.security.full_house import furnish

PLAN = {"seconds": 240, "tokens_per_second": 100, "peak_bytes": 10**9}


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db, email="ana@house.example")


def held(db: Session, owner: User, status: ReviewStatus, **columns: object) -> DatasetVersion:
    version = make_dataset_version(db, user=owner, name="Night shifts", decided=False)
    if status in (ReviewStatus.SCANNING, ReviewStatus.REPLACING):
        columns["lease_until"] = datetime.now(UTC) + timedelta(hours=1)
    db.add(PrivacyReview(version_id=version.id, status=status, **columns))
    db.commit()
    return version


# --- data ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", list(ReviewStatus))
def test_data_that_the_gate_holds_is_nowhere_called_ready(
    client: TestClient, db: Session, owner: User, status: ReviewStatus
) -> None:
    version = held(db, owner, status, found={"name": 1}, num_examples=1, reason="It was cut off.")
    how = states.of(db, version)
    sign_in(client, db, owner)
    is_free = status is ReviewStatus.DECIDED
    for address in ("/datasets", f"/versions/{version.id}"):
        badges = re.findall(r'class="status status-\w+">([^<]+)</span>', client.get(address).text)
        assert ("Ready" in badges) == is_free, address
        assert how.word in badges, address
    for tab in ("", "/check", "/train", "/file"):
        shown = client.get(f"/versions/{version.id}{tab}").text
        assert ("Train a model with this" in shown) == is_free, tab
    form = client.get(f"/jobs/new?version={version.id}").text
    assert ("disabled aria-describedby" in form) == (not is_free)
    assert how.why_not in form
    assert "It fits this machine" not in form or is_free
    refused = client.post("/jobs/new", data={"version_id": str(version.id), "name": "x"})
    assert ('<details class="change" open>' in refused.text) is False, "no setting is wrong"
    home = client.get("/").text
    assert how.word in home or is_free
    if how.needs_person:
        assert f"/versions/{version.id}/privacy" in home


def test_an_old_version_says_one_thing(client: TestClient, db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner, decided=False)
    newer = DatasetVersion(
        dataset_id=version.dataset_id,
        number=2,
        base_version_id=version.id,
        file_id=version.file_id,
        status=version.status,
        num_train=3,
        changes={"why": "details taken out", "num_edited": 1},
    )
    db.add(newer)
    db.flush()
    db.add(
        PrivacyReview(
            version_id=version.id, status=ReviewStatus.REPLACED, result_version_id=newer.id
        )
    )
    pass_gate(db, newer)
    page = sign_in(client, db, owner).get(f"/versions/{version.id}").text
    assert "Version 2 takes the place of this one" in page
    assert "Replaced by a newer version" in page
    for tab in ("", "/check", "/train", "/file"):
        shown = client.get(f"/versions/{version.id}{tab}").text
        for wrong in ("Decide about", "decide about", "What was found", "is ready for training"):
            assert wrong not in shown, tab
        assert f'href="/versions/{newer.id}">Open version 2' in shown, tab
    assert f'href="/versions/{newer.id}">Open version 2' in page


def test_too_few_rows_are_told_of_before_the_columns_are_chosen(
    client: TestClient, db: Session, owner: User
) -> None:
    from worker.cpu import reading

    sign_in(client, db, owner)
    client.post(
        "/datasets/upload",
        files={"file": ("two.csv", b"question,answer\nWhere?,There.\nWhen?,Now.\n", "text/csv")},
    )
    assert reading.read_next("cpu-0")
    version = db.scalars(select(DatasetVersion)).one()
    page = client.get(f"/versions/{version.id}").text
    assert "This has only 2 rows, and training needs at least 10." in page
    assert ">Continue</button>" not in page
    # It is a state of its own, wherever the data is named; what was read can be looked at.
    assert "Too few rows" in page
    assert "Check the columns" not in page
    assert "There." in page
    assert '<a class="button" href="/datasets/new">Upload another file</a>' in page
    assert "too few rows" in page[page.index('id="steps"') : page.index("<h1>")]
    assert "Too few rows" in client.get("/datasets?show=waiting").text
    assert "Check the columns" not in client.get("/datasets").text
    home = client.get("/").text
    assert "“two” has too few rows to train on." in home
    assert '<a class="button" href="/datasets/new">Upload another file</a>' in home
    # Of what can go on, that is the next step.
    ready = make_dataset_version(db, user=owner, name="Ward")
    home = client.get("/").text
    assert f'<a class="button" href="/jobs/new?version={ready.id}">Train a model</a>' in home
    waits = home[home.index("<h2>Waiting for you</h2>") :]
    assert 'href="/datasets/new">Upload another file</a>' in waits[: waits.index("</section>")]
    refused = client.get(f"/jobs/new?version={version.id}").text
    assert "“two” has too few rows. Add rows to the file and upload it again." in refused


# What only those who program can read.
_RAW = ("[Errno", "No such file", "Traceback", "`", "docs/", "object at 0x", "tokenizer.json")


def test_a_model_whose_files_are_gone_is_told_of_in_words(
    client: TestClient, db: Session, owner: User
) -> None:
    model = byte_model(db)
    version = make_dataset_version(db, user=owner)
    (base_models.folder(model) / "tokenizer.json").unlink()
    sign_in(client, db, owner)
    met = []
    for address in (
        f"/versions/{version.id}",
        f"/versions/{version.id}/check",
        f"/versions/{version.id}/examples/0",
        f"/jobs/new?version={version.id}",
    ):
        page = client.get(address).text
        assert not [raw for raw in _RAW if raw in page], address
        met += re.findall(r"The model&#39;s tokenizer cannot be read; ask your", page)
    assert len(met) >= 3
    form = {"version_id": version.id, "base_model_id": model.id, "preset": "quick", "name": "x"}
    refused = client.post("/jobs/new", data=form).text
    assert not [raw for raw in _RAW if raw in refused]


def test_an_example_that_is_cut_is_shown_where_it_is_cut(
    client: TestClient, db: Session, owner: User
) -> None:
    byte_model(db)
    version = make_dataset_version(db, user=owner, num_train=1, num_validation=0)
    example = db.scalars(select(Example)).one()
    address = f"/versions/{version.id}/examples/0?length="
    sign_in(client, db, owner)
    for question, answer, where, cut in (
        ("q" * 200, "There.", "at the beginning", "qqqq"),
        ("Where?", "a" * 300, "at the beginning and at the end", "aaaa"),
    ):
        example.messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
        db.commit()
        page = client.get(f"{address}100").text
        assert f"would be cut off</del> {where}." in page
        assert re.findall(r'<del class="cut" id="cut">([^<]*)</del>', page)[0].count(cut[0]) > 50
        assert page.count('id="cut"') == 1
    assert "Nothing is cut off" in client.get(f"{address}1000").text


# --- jobs ---------------------------------------------------------------------------------------


def test_a_job_that_does_not_train_shows_no_time_and_no_promise_of_it(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    paused = make_job(db, user=owner, plan=PLAN, desired=Desired.PAUSE, step=3, total_steps=60)
    waiting = make_job(db, user=owner, version=paused.version, plan=PLAN)
    for job, says in ((paused, "Paused"), (waiting, "Waiting")):
        page = client.get(f"/jobs/{job.id}").text
        assert says in page
        for wrong in ("training continues", "Time left", "min left"):
            assert wrong not in page, (says, wrong)
        assert re.search(r"<progress[^>]* value=", page), "a bar without a value moves"
    assert "about 4 min" not in client.get(f"/jobs/{paused.id}").text
    page = client.get(f"/jobs/{waiting.id}").text
    assert "Then takes" in page
    assert "about 4 min" in page


def test_colleagues_who_only_look_find_the_adapter(
    client: TestClient, db: Session, owner: User
) -> None:
    adapter = make_adapter(db, user=owner)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    page = client.get(f"/jobs/{adapter.job_id}").text
    assert f'href="/adapters/{adapter.id}">Open the trained model' in page
    assert "/ask" not in page


def test_an_owner_hears_who_cancelled_a_job_and_why(
    client: TestClient, db: Session, owner: User
) -> None:
    admin = make_user(db, role=Role.ADMIN)
    admin.name = "Dr. Weber"
    job = make_job(db, user=owner, name="Nights")
    other = make_job(db, user=owner, version=job.version, name="Days")
    sign_in(client, db, admin)
    assert "Why? (optional)" in client.get("/queue").text
    client.post(f"/queue/jobs/{job.id}/cancel", data={"why": "We need the machine  tonight."})
    client.post(f"/jobs/{other.id}/cancel")
    told = db.scalars(select(Notice).order_by(Notice.id)).all()
    assert [(notice.user_id, notice.kind, notice.title) for notice in told] == [
        (
            owner.id,
            NoticeKind.JOB_CANCELLED,
            "Dr. Weber cancelled “Nights”: “We need the machine tonight.”",
        ),
        (owner.id, NoticeKind.JOB_CANCELLED, "Dr. Weber cancelled “Days”"),
    ]
    sign_in(client, db, owner)
    page = client.get(f"/jobs/{job.id}").text
    assert "Dr. Weber: “We need the machine tonight.”" in page
    assert "No reason was given." in client.get(f"/jobs/{other.id}").text
    mine = make_job(db, user=owner, version=job.version)
    assert "Why? (optional)" not in client.get(f"/jobs/{mine.id}").text
    client.post(f"/jobs/{mine.id}/cancel")
    assert len(db.scalars(select(Notice)).all()) == 2, "nobody is told of an own operation"
    assert "Who cancelled it" not in client.get(f"/jobs/{mine.id}").text
    long = client.post(f"/jobs/{make_job(db, user=owner).id}/cancel", data={"why": "x" * 301})
    assert long.status_code == 422


def test_all_that_is_wrong_with_a_new_job_is_said_at_once(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner)
    sign_in(client, db, owner)
    sent = {"version_id": str(version.id), "name": " ", "lora_rank": "many", "num_epochs": "x"}
    page = client.post("/jobs/new", data=sent).text
    for field in ("name", "base_model_id", "lora_rank", "num_epochs"):
        assert f'id="{field}-error"' in page, field
    assert db.scalars(select(Job)).all() == []


# --- models and adapters ------------------------------------------------------------------------


def test_a_model_is_deleted_and_what_it_made_says_so(
    client: TestClient, db: Session, owner: User
) -> None:
    adapter = make_adapter(db, user=owner)
    model = adapter.base_model
    sign_in(client, db, owner)
    assert client.post(f"/models/{model.id}/delete").status_code == 403
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    assert "1 trained model was made with it: it stays" in client.get("/models").text
    job = make_job(db, user=owner, name="Nights")
    refused = client.post(f"/models/{model.id}/delete")
    assert refused.status_code == 409
    assert "The job “Nights” still needs tiny" in refused.text
    job.status, job.finished_at = JobStatus.CANCELLED, datetime.now(UTC)
    db.commit()
    assert f'id="model-{model.id}"' not in client.post(f"/models/{model.id}/delete").text
    sign_in(client, db, owner)
    page = client.get(f"/adapters/{adapter.id}").text
    assert "Its starting model tiny is no longer here" in page
    assert "Train it further" not in page
    assert "Its starting model is missing" in client.get("/adapters").text
    for address in (f"/adapters/{adapter.id}/ask", "/", "/jobs", f"/jobs/{adapter.job_id}"):
        assert client.get(address).status_code < 500, address
    assert db.get(Adapter, adapter.id) is not None


def test_a_model_on_its_way_is_not_called_missing(
    client: TestClient, db: Session, owner: User
) -> None:
    model = make_base_model(
        db, status=ModelStatus.IMPORTING, lease_until=datetime.now(UTC) + timedelta(hours=1)
    )
    make_dataset_version(db, user=owner)
    form = sign_in(client, db, owner).get("/jobs/new").text
    assert "still being imported; your job waits for it" in form
    assert model.label in form


# --- settings -----------------------------------------------------------------------------------


def test_settings_lead_to_what_can_be_set(client: TestClient, db: Session, owner: User) -> None:
    assert sign_in(client, db, owner).get("/settings").status_code == 403
    db.add(PrivacyPattern(name="Ward number", kind="record", pattern="W[0-9]+"))
    page = sign_in(client, db, make_user(db, role=Role.ADMIN)).get("/settings").text
    assert "1 pattern; somebody decides about what is found before data is trained on" in page
    for address in re.findall(r'class="title" href="([^"]+)"', page):
        assert client.get(address).status_code == 200, address


def test_nobody_is_told_a_path_or_the_same_thing_twice(
    client: TestClient, db: Session, broker: str
) -> None:
    sign_in(client, db, furnish(db))
    shared = db.scalars(select(Adapter).where(Adapter.release == Release.RELEASED)).one()
    curve = db.scalars(select(LearningCurve)).one()
    vote = db.scalars(select(VoteRound)).one()

    def said(address: str) -> str:
        main = client.get(address).text.split("<main", 1)[1]
        return " ".join(re.sub(r"<[^>]+>", " ", main).split())

    for address in (f"/adapters/{shared.id}/sharing", f"/votes/{vote.id}"):
        assert not re.search(r"/(ask|votes)/\d", said(address)), address
        assert "address of" in said(address) or "its address" in said(address)
    # Its jobs are gone: a word for each, and none twice.
    points = said(f"/curves/{curve.id}")
    assert points.count("Its job was deleted") == 3
    assert "Deleted" not in points
    assert not re.search(r"deleted\W*·", points)
    assert "—" not in said("/models").split("Other starting models", 1)[0]


def test_what_the_head_of_a_page_says_is_not_said_below_it(client: TestClient, db: Session) -> None:
    user = make_user(db)
    version = make_dataset_version(db, user=user, decided=False)
    sign_in(client, db, user)
    page = client.get(f"/versions/{version.id}").text
    assert page.count("Search for personal details") == 1
    assert "has not been searched" not in page
    assert "Search “Ward questions” for personal details" in page
