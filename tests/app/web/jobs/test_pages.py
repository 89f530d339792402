"""Pages of jobs, adapters, the queue and models: who may see and do what, and wrong forms."""

import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import delete, event, select
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.base_models import catalog
from app.core.models import (
    Adapter,
    BaseModel,
    CheckStatus,
    DatasetCheck,
    Desired,
    ExampleKind,
    Job,
    JobEvent,
    JobStatus,
    Metric,
    ModelStatus,
    Role,
    User,
    Worker,
)
from app.datasets.doctor.report import Report
from app.training.config import PRESETS, proposed_learning_rate
from app.training.plan.machine import DeviceInfo
from app.web.jobs import new_page
from tests.app.datasets.test_lengths import byte_model
from tests.app.web.pages import READS_HTML, sign_in
from tests.factories import (
    make_base_model,
    make_dataset_version,
    make_department,
    make_job,
    make_user,
    make_zipped_adapter,
)


@pytest.fixture
def owner(db: Session, broker: str) -> User:
    return make_user(db)


# --- a new job ------------------------------------------------------------------------------


def test_a_new_job_proposes_a_model_of_the_catalogue(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner, num_train=900, num_validation=50, num_test=50)
    first = make_base_model(db)
    address = f"/jobs/new?version={version.id}"
    sign_in(client, db, owner)
    add_cpu(db)
    assert "we would take" not in client.get(address).text, "nobody knows how long they are"
    bars = {"whole": [0, 0, 0, 500, 500] + [0] * 7}
    report = Report(num_examples=1000, bars=bars, languages={"German": 900, "English": 100})
    check = DatasetCheck(version_id=version.id, status=CheckStatus.DONE, report=report.model_dump())
    db.add(check)
    db.commit()
    short = proposed(client.get(address).text)
    assert "not here yet" in short and "know the data's language (German)" in short
    assert "your 900 examples of about 59 words each takes about" in short
    assert re.search(r" h.* and [\d.]+ GB of 12.0 GB of memory", short)
    report.bars["whole"] = [0] * 8 + [1000] + [0] * 3
    check.report = report.model_dump()
    db.commit()
    long = proposed(client.get(address).text)
    assert "about 970 words each" in long
    small, large = entry_of(long), entry_of(short)
    assert small.parameters < large.parameters, "such a job would take days with the larger one"

    taken = make_base_model(db, name=small.name, status=ModelStatus.WAITING)
    page = client.get(address).text
    assert "still being imported" in proposed(page)
    assert f'value="{first.id}" checked' in page, "the other one is ready"
    taken.status = ModelStatus.READY
    db.commit()
    page = client.get(address).text
    assert ", which is here." in proposed(page)
    assert f'value="{taken.id}" checked' in page
    assert f'value="{first.id}" checked' in client.get(f"{address}&base_model={first.id}").text
    job = make_job(db, user=owner, version=version, base_model=first)
    assert f'value="{first.id}" checked' in client.get(f"/jobs/new?copy_of={job.id}").text
    sent = {"version_id": str(version.id), "base_model_id": str(first.id), "preset": "balanced"}
    page = client.post("/jobs/new/estimate", data=sent).text
    assert f'value="{first.id}" checked' in page and "we would take" in page


def test_each_model_says_what_it_needs_on_each_device(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner, num_train=900, num_validation=50, num_test=50)
    small, *_, large = catalog.entries()
    models = [
        make_base_model(db, name=one.name, folder=one.name, config=one.config,
                        num_parameters=one.parameters)
        for one in (small, large)
    ]  # fmt: skip
    sign_in(client, db, owner)
    address = f"/jobs/new?version={version.id}&base_model={models[0].id}"
    assert "Fits " not in client.get(address).text, "nobody knows the machines"
    add_cpu(db)
    card = DeviceInfo(kind="cuda", name="NVIDIA L4", free_bytes=22 * 10**9)
    db.add(
        Worker(id="gpu-1@here", queue="gpu", host="here", boot_id="b", devices=["cuda:0"],
               version="1", hardware=card.model_dump())
    )  # fmt: skip
    db.commit()
    (first, second) = (needs_of(client.get(address).text, one.id) for one in models)
    assert first == "Fits NVIDIA L4 Fits this CPU", "nobody knows how long the examples are"
    assert second.endswith("Too large for this CPU")
    report = Report(num_examples=1000, bars={"whole": [0, 0, 0, 500, 500] + [0] * 7})
    db.add(DatasetCheck(version_id=version.id, status=CheckStatus.DONE, report=report.model_dump()))
    db.commit()
    page = client.get(address).text
    first, second = (needs_of(page, one.id) for one in models)
    assert re.fullmatch(r"Fits NVIDIA L4, (.+) Fits this CPU, about \d+ (min|h.*)", first)
    assert "word" not in first, "no answer was given here, and it has a GPU"
    sent = {"version_id": str(version.id), "base_model_id": str(models[0].id)}
    anew = {
        preset: client.post(
            "/jobs/new/estimate", data=sent | {"preset": preset}, headers={"HX-Request": "true"}
        ).text
        for preset in ("balanced", "thorough")
    }
    assert needs_of(anew["balanced"], models[0].id) == first
    assert needs_of(anew["thorough"], models[0].id) != first, "it goes with the settings"
    assert 'id="proposal" hx-swap-oob="innerHTML">For this data we would take' in anew["balanced"]
    for number in range(7):
        make_base_model(db, name=f"house/{number}", folder=f"m{number}")
    listed = client.get(address).text
    assert re.search(rf'<option id="needs-{models[0].id}"[^>]*>[^<]*\(Fits NVIDIA L4, ', listed)


def needs_of(page: str, model_id: int) -> str:
    found = re.search(rf'<span id="needs-{model_id}"[^>]*>(.*?</span>)\s*</span>', page, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]*>", " ", found[1]).split())


def add_cpu(db: Session) -> None:
    cpu = DeviceInfo(free_bytes=12 * 10**9, total_bytes=16 * 10**9, num_cores=4)
    db.add(
        Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"],
               version="1", hardware=cpu.model_dump())
    )  # fmt: skip
    db.commit()


def proposed(page: str) -> str:
    found = re.search(r'<p class="soft" id="proposal">(.+?)</p>', page, re.DOTALL)
    assert found is not None
    return unescape(" ".join(found[1].split()))


def entry_of(sentence: str) -> catalog.Entry:
    label = sentence.removeprefix("For this data we would take ").partition(". ")[0]
    return next(one for one in catalog.entries() if one.label == label)


# --- one job -------------------------------------------------------------------------------


def test_a_job_page_has_its_points_and_works_without_javascript(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, event_seq=9, step=2, total_steps=2)
    for step, name, value, seq in (
        (0, "validation_loss", 2.5, 6),
        (1, "loss", 2.25, 7),
        (2, "loss", 2.0, 9),
        (2, "validation_loss", 1.5, 9),
        (3, "loss", 1.75, 10),  # written since the job's row was read: the stream brings it
    ):
        at = datetime.now(UTC)
        db.add(Metric(job_id=job.id, attempt=1, step=step, name=name, value=value, seq=seq, at=at))
    db.add(JobEvent(job_id=job.id, seq=8, level="info", kind="note", message="<b>All read.</b>"))
    db.commit()
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    points = points_of(html)
    assert points["seq"] == 9
    assert points["step"] == [0, 1, 2]
    assert points["loss"] == [None, 2.25, 2.0]
    assert points["validation_loss"] == [2.5, None, 1.5]
    assert "<td>2.25</td>" in html
    assert "fell from 2.50 to 1.50" in html
    assert "&lt;b&gt;All read.&lt;/b&gt;" in html
    assert " style=" not in html


def points_of(html: str) -> dict[str, Any]:
    """Return what the page's chart is drawn from."""
    found = re.search(r"<script type=\"application/json\" data-points>(.+?)</script>", html)
    assert found is not None
    points: dict[str, Any] = json.loads(found[1])
    return points


def test_a_curve_of_very_many_steps_has_a_mean_for_every_few(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, step=4500, event_seq=4500)
    at = datetime.now(UTC)
    of_all = {"job_id": job.id, "attempt": 1, "at": at}
    db.add_all(
        Metric(**of_all, step=step, seq=step, name="loss", value=float(step))
        for step in range(1, 4501)
    )
    db.add_all(
        Metric(**of_all, step=step, seq=step, name="validation_loss", value=1.0)
        for step in (0, 2, 4000)
    )
    db.commit()
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    points = points_of(html)
    assert (points["seq"], points["steps_a_point"]) == (4500, 3)
    by_step = dict(zip(points["step"], points["loss"], strict=True))
    assert [by_step[step] for step in (3, 6, 4500)] == [2.0, 5.0, 4499.0]
    assert len(by_step) == 1503
    checks = dict(zip(points["step"], points["validation_loss"], strict=True))
    assert [step for step, value in checks.items() if value] == [0, 2, 4000]
    assert "the mean of 3 steps" in html


def test_predicted_and_measured_stand_side_by_side(
    client: TestClient, db: Session, owner: User
) -> None:
    plan = {"peak_bytes": 2_000_000_000, "seconds": 200.0, "tokens_per_second": 1500.0}
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, plan=plan)
    sign_in(client, db, owner)

    def table() -> dict[str, list[str]]:
        html = client.get(f"/jobs/{job.id}").text
        found = re.search(r'<table class="predicted">(.+?)</table>', html, re.DOTALL)
        assert found is not None
        rows = re.findall(r'<th scope="row">(.+?)</th>(.+?)</tr>', found[1], re.DOTALL)
        return {name: re.findall(r"<td>(.+?)</td>", cells) for name, cells in rows}

    assert table() == {
        "Memory": ["2.0 GB", "—"], "Time": ["3 min 20 s", "—"], "Tokens/s": ["1,500", "—"],
        "Energy": ["—", "not measured on this machine"],
    }  # fmt: skip
    measured = {"peak_bytes": 1_000_000_000, "seconds": 250.0, "tokens_per_second": 1200.0}
    job.measured = measured | {"save_seconds": 2.5}
    db.commit()
    assert table() == {
        "Memory": ["2.0 GB", "1.0 GB"], "Time": ["3 min 20 s", "4 min 10 s"],
        "Tokens/s": ["1,500", "1,200"], "Checkpoints": ["at most 2%", "2 s (1.0%)"],
        "Energy": ["—", "not measured on this machine"],
    }  # fmt: skip


def test_a_row_of_which_nothing_is_known_is_not_drawn(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(db, user=owner, plan={"peak_bytes": 2e9, "seconds": 200, "tokens_per_second": 9})
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    assert '<th scope="row">Time</th>' in html
    assert '<th scope="row">Energy</th>' not in html


@pytest.mark.parametrize("has_begun", [False, True], ids=["waits", "has begun"])
def test_what_a_cancel_ends_is_said_of_what_there_is(
    client: TestClient, db: Session, owner: User, has_begun: bool
) -> None:
    began = datetime.now(UTC) if has_begun else None
    make_job(db, user=owner, name="Nights", started_at=began, desired=Desired.PAUSE)
    sign_in(client, db, owner)
    for address in ("/queue", f"/jobs/{db.scalars(select(Job.id)).one()}"):
        html = client.get(address).text
        assert ("Training stops for good" in html) == has_begun, address
        assert ("It is not trained" in html) != has_begun, address


@pytest.mark.parametrize("is_over", [False, True], ids=["begins", "is cancelled"])
def test_a_figure_stands_there_once_it_has_a_value(
    client: TestClient, db: Session, owner: User, is_over: bool
) -> None:
    columns: dict[str, Any] = {"status": JobStatus.CANCELLED}
    if not is_over:
        lease = datetime.now(UTC) + timedelta(minutes=5)
        columns = {"status": JobStatus.RUNNING, "lease_until": lease, "worker_id": "gpu-0@here"}
    job = make_job(db, user=owner, attempt=1, **columns)
    sign_in(client, db, owner)

    def figures() -> tuple[set[str], str]:
        html = client.get(f"/jobs/{job.id}").text
        found = re.search(r'<dl class="figures">(.*?)</dl>', html, re.DOTALL)
        assert found is not None
        plain = " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())
        return set(re.findall(r'data-with="(\w+)" hidden', found[1])), plain

    hidden, said = figures()
    assert hidden == {"elapsed", "test_loss", "speed"}
    assert "—" not in said
    assert ("Time left not known yet" in said) != is_over
    assert ("Nothing has happened yet." in client.get(f"/jobs/{job.id}").text) != is_over
    job.started_at = datetime.now(UTC) - timedelta(minutes=3)
    job.finished_at = datetime.now(UTC) if is_over else None
    row = {"job_id": job.id, "attempt": 1, "seq": 1, "step": 1, "at": datetime.now(UTC)}
    db.add(Metric(name="tokens_per_second", value=700.0, **row))
    db.commit()
    hidden, said = figures()
    assert hidden == {"test_loss"}
    assert "700 tokens /s" in said
    assert ("Time taken about 3 min" if is_over else "not known yet · about 3 min so far") in said


def test_the_settings_shown_are_the_jobs_own(client: TestClient, db: Session, owner: User) -> None:
    config = PRESETS["thorough"].config.model_copy(update={"lora_rank": 48, "seed": 7})
    job = make_job(db, user=owner, config=config)
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    assert "Thorough, 1 change<" in html
    assert re.search(r"Adapter rank <span class=\"changed\">changed</span></dt>\s*<dd>48", html)


def test_a_failed_job_says_why_and_shows_its_log(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(
        db,
        user=owner,
        status=JobStatus.FAILED,
        reason="The disk is full.",
        log_tail="No space left <script>",
    )
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    assert "The disk is full." in html
    assert "No space left &lt;script&gt;" in html
    assert f'action="/jobs/{job.id}/retry"' in html


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/{job}"),
        ("GET", "/jobs/{job}/metrics.csv"),
        ("GET", "/jobs/new?copy_of={job}"),
        ("POST", "/jobs/{job}/cancel"),
        ("POST", "/jobs/{job}/pause"),
        ("POST", "/jobs/{job}/resume"),
        ("POST", "/jobs/{job}/retry"),
        ("POST", "/jobs/{job}/rename"),
        ("POST", "/jobs/{job}/delete"),
        ("GET", "/adapters/{adapter}"),
        ("POST", "/adapters/{adapter}/rename"),
        ("POST", "/adapters/{adapter}/delete"),
        ("POST", "/bin/jobs/{job}/restore"),
        ("POST", "/bin/jobs/{job}/erase"),
        ("POST", "/bin/adapters/{adapter}/restore"),
        ("POST", "/bin/adapters/{adapter}/erase"),
    ],
)
def test_strangers_find_nothing(
    client: TestClient, db: Session, owner: User, method: str, path: str
) -> None:
    adapter = make_zipped_adapter(db, owner)
    job = make_job(db, user=owner)
    stranger = make_user(db, role=Role.ADMIN, department=make_department(db))
    sign_in(client, db, stranger)
    address = path.format(job=job.id, adapter=adapter.id)
    answer = client.request(method, address, data={"name": "Mine"} if method == "POST" else None)
    assert answer.status_code == 404
    db.expire_all()
    assert db.get_one(Job, job.id).desired is Desired.RUN
    assert db.get_one(Adapter, adapter.id).name == "Ward questions"


def test_nobody_is_sent_to_sign_in(client: TestClient, db: Session, owner: User) -> None:
    for path in ("/jobs", "/jobs/new", "/adapters", "/queue", "/models"):
        answer = client.get(path, headers=READS_HTML, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in")


def test_owners_cancel_retry_rename_and_delete(
    client: TestClient, db: Session, owner: User
) -> None:
    job = make_job(db, user=owner)
    sign_in(client, db, owner)
    assert "Cancelled" in client.post(f"/jobs/{job.id}/cancel").text
    again = client.post(f"/jobs/{job.id}/retry", follow_redirects=False)
    new = db.get_one(Job, int(again.headers["location"].rpartition("/")[2]))
    assert (new.retry_of_id, new.status) == (job.id, JobStatus.QUEUED)
    assert "Second try" in client.post(f"/jobs/{new.id}/rename", data={"name": "Second try"}).text
    refused = client.post(f"/jobs/{new.id}/rename", data={"name": "x" * 300})
    assert refused.status_code == 422
    assert "x" * 300 in refused.text
    assert client.post(f"/jobs/{new.id}/delete").status_code == 409
    client.post(f"/jobs/{job.id}/delete", data={"at_once": "1"})
    assert db.scalars(select(Job.id).where(Job.id == job.id)).first() is None


def test_a_viewer_looks_but_changes_nothing(client: TestClient, db: Session, owner: User) -> None:
    job = make_job(db, user=owner)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    html = client.get(f"/jobs/{job.id}").text
    assert "Cancel…" not in html
    assert client.post(f"/jobs/{job.id}/cancel").status_code == 403
    assert client.get("/jobs/new").status_code == 403


# --- a new job -----------------------------------------------------------------------------


def form_of(db: Session, user: User, **changes: Any) -> dict[str, str]:
    version = make_dataset_version(db, user=user)
    model = db.scalars(select(BaseModel)).first() or make_base_model(db)
    form = {
        "version_id": str(version.id),
        "base_model_id": str(model.id),
        "preset": "quick",
        "name": "Ward questions",
    }
    return form | changes


@pytest.mark.usefixtures("broker")
def test_the_only_starting_model_is_chosen_while_it_is_on_its_way(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner)
    model = make_base_model(db)
    model.status = ModelStatus.WAITING
    db.commit()
    browser = sign_in(client, db, owner)
    page = browser.get(f"/jobs/new?version={version.id}").text
    assert f'name="base_model_id" value="{model.id}" checked' in page
    form = {"version_id": str(version.id), "base_model_id": str(model.id), "preset": "quick"}
    made = browser.post("/jobs/new", data=form | {"name": "Nights"})
    assert "Its starting model is being imported; the job begins by itself" in made.text


def test_a_preset_with_changes_is_frozen_in_the_job(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    form = form_of(db, owner, lora_rank="24", learning_rate="0,0005", max_length_tokens="1,024")
    answer = client.post("/jobs/new", data=form, follow_redirects=False)
    assert answer.status_code == 303
    job = db.scalars(select(Job)).one()
    wanted = {"lora_rank": 24, "learning_rate": 0.0005, "max_length_tokens": 1024}
    assert job.config == PRESETS["quick"].config.model_dump(mode="json") | wanted
    copied = client.get(f"/jobs/new?copy_of={job.id}").text
    assert re.search(r'id="lora_rank"[^>]*value="24"', copied)
    assert re.search(r'value="quick" checked', copied)


def test_many_starting_models_are_a_list_to_choose_from(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    make_dataset_version(db, user=owner)
    models = [make_base_model(db, name=f"house/{n}", folder=f"m{n}") for n in range(8)]
    page = client.get("/jobs/new").text
    assert page.count('type="radio" name="base_model_id"') == 8
    make_base_model(db, name="house/one-more", folder="one-more")
    page = client.get(f"/jobs/new?base_model={models[3].id}").text
    assert 'type="radio" name="base_model_id"' not in page
    chosen = re.search(r'<select[^>]* name="base_model_id".*?</select>', page, re.DOTALL)
    assert chosen is not None
    assert chosen[0].count("<option") == 9
    assert f'value="{models[3].id}" selected>' in chosen[0]


def test_the_data_asked_for_is_the_data_chosen(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    make_base_model(db)
    older, newer = (make_dataset_version(db, user=owner, name=name) for name in "AB")
    for version in (older, newer):
        page = client.get(f"/versions/{version.id}").text
        (link,) = re.findall(r'href="(/jobs/new[^"]*)"[^>]*>Train a model with this', page)
        chosen = re.findall(r'<option value="(\d+)" selected', client.get(link).text)
        assert chosen == [str(version.id)]


def test_of_very_much_data_the_newest_are_listed(
    client: TestClient, db: Session, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_base_model(db)
    made = [make_dataset_version(db, user=owner, name=f"Data {number}") for number in range(4)]
    db.commit()
    sign_in(client, db, owner)

    def listed(address: str) -> list[int]:
        page = client.get(address).text
        assert ("Only the newest data are listed." in page) == (len(made) > new_page._NUM_LISTED)
        (options,) = re.findall(r'<select[^>]*id="version_id".*?</select>', page, re.DOTALL)
        return [int(number) for number in re.findall(r'<option value="(\d+)"', options)]

    newest_first = [version.id for version in reversed(made)]
    assert listed("/jobs/new") == newest_first
    monkeypatch.setattr(new_page, "_NUM_LISTED", 2)
    assert listed("/jobs/new") == newest_first[:2]
    # What was asked for is there, however old it is.
    assert listed(f"/jobs/new?version={made[0].id}") == [*newest_first[:2], made[0].id]


def test_a_copy_is_tested_on_what_its_original_was(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    held_out = make_dataset_version(db, user=owner, name="Test sheet")
    job = make_job(db, user=owner, validation_version_id=held_out.id)
    assert "Test sheet, version 1" in client.get(f"/jobs/{job.id}").text
    copied = client.get(f"/jobs/new?copy_of={job.id}").text
    assert re.search(rf'<option value="{held_out.id}" selected>Test sheet', copied)
    form = {
        "version_id": str(job.version_id),
        "base_model_id": str(job.base_model_id),
        "preset": "quick",
        "name": "Again",
    }
    for typed, kept in ((str(held_out.id), held_out.id), ("", None)):
        client.post("/jobs/new", data=form | {"validation_version_id": typed})
        newest = db.scalars(select(Job).order_by(Job.id.desc()).limit(1)).one()
        assert (newest.name, newest.validation_version_id) == ("Again", kept)
    strange = make_dataset_version(db, user=make_user(db, department=make_department(db)))
    answer = client.post("/jobs/new", data=form | {"validation_version_id": str(strange.id)})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("lora_rank", "0", "“Adapter rank” needs a whole number: 1 to 256."),
        ("learning_rate", "fast", "“Learning rate” needs a number: more than 0, up to 0.01."),
        ("preset", "ultra", "Choose Quick, Balanced or Thorough."),
        ("version_id", "", "Choose the data to learn from."),
        ("version_id", "99999", "does not exist"),
        ("name", " ", "Give the job a name."),
    ],
)
def test_a_wrong_value_comes_back_filled_in(
    client: TestClient, db: Session, owner: User, field: str, typed: str, words: str
) -> None:
    sign_in(client, db, owner)
    form = form_of(db, owner, num_epochs="7") | {field: typed}
    answer = client.post("/jobs/new", data=form)
    assert answer.status_code in (404, 422)
    assert words.lower() in answer.text.lower()
    assert re.search(r'id="num_epochs"[^>]*value="7"', answer.text)
    assert db.scalars(select(Job)).first() is None


def test_a_strangers_data_cannot_be_used(client: TestClient, db: Session, owner: User) -> None:
    form = form_of(db, owner)
    sign_in(client, db, make_user(db, department=make_department(db)))
    assert client.post("/jobs/new", data=form).status_code in (404, 422)
    assert db.scalars(select(Job)).first() is None


def test_the_estimate_is_a_fragment_and_says_what_is_missing(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    form = form_of(db, owner)
    whole = client.post("/jobs/new/estimate", data=form | {"lora_rank": "24"})
    assert "<html" in whole.text, "without JavaScript a button asks"
    assert re.search(r'id="lora_rank"[^>]*value="24"', whole.text)
    client.headers["HX-Request"] = "true"
    answer = client.post("/jobs/new/estimate", data=form)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "No machine for training has been seen yet." in answer.text
    wrong = client.post("/jobs/new/estimate", data=form | {"batch_size": "1000"})
    assert "“Examples per step” needs a whole number: 1 to 256." in wrong.text


def test_each_starting_model_says_whether_it_fits(
    client: TestClient, db: Session, owner: User
) -> None:
    small = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 320,
        "num_attention_heads": 4, "intermediate_size": 128,
    }  # fmt: skip
    make_dataset_version(db, user=owner)
    make_base_model(db, name="house/small", config=small, num_parameters=150_000)
    make_base_model(db, name="house/large", config=small, num_parameters=70_000_000_000)
    make_base_model(db, name="house/coming", status=ModelStatus.WAITING)
    hardware = DeviceInfo(free_bytes=8 * 1024**3).model_dump()
    db.add(
        Worker(
            id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"], version="1",
            hardware=hardware,
        )
    )  # fmt: skip
    db.commit()
    sign_in(client, db, owner)
    cards = re.findall(r'<label class="card">(.*?)</label>', client.get("/jobs/new").text, re.S)
    said = [re.findall(r"(?:Fits|Too large for) this CPU", card) for card in cards[:3]]
    assert sorted(said) == [[], ["Fits this CPU"], ["Too large for this CPU"]]
    page = client.get("/models").text.partition('id="others"')[0]
    assert re.findall(r'class="fits is-(\w+)"', page).count("no") == 1


def test_several_gpus_are_told_as_such(client: TestClient, db: Session, owner: User) -> None:
    llama = {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32,
        "intermediate_size": 14336, "num_attention_heads": 32, "vocab_size": 32000,
    }  # fmt: skip
    model = byte_model(db)
    model.config, model.num_parameters = llama, 6_700_000_000
    hardware = DeviceInfo(
        kind="cuda", name="NVIDIA L4", free_bytes=23 * 1024**3, num_devices=2
    ).model_dump()
    db.add(
        Worker(
            id="gpu-0@here", queue="gpu", host="here", boot_id="b", version="1",
            devices=["cuda:0", "cuda:1"], hardware=hardware,
        )
    )  # fmt: skip
    db.commit()
    sign_in(client, db, owner)
    form = form_of(db, owner, base_model_id=str(model.id))
    estimate = client.post("/jobs/new/estimate", data=form).text
    assert "free on each</span>" in estimate
    assert "It trains on 2 × NVIDIA L4." in estimate
    assert "Afterwards it answers up to 4 test questions, about 2 min." in estimate
    assert "Each of the 2 GPUs holds the whole starting model" in estimate
    # What only some people can read is folded away.
    plain, fold, folded = estimate.partition("<summary>How this was worked out</summary>")
    assert fold
    for words in ("Each of the 2 GPUs holds", "It trains on 2 ×", "is rounded to 4 bits"):
        assert words not in plain
    assert "Each of the 2 GPUs holds" in folded
    sent = client.post("/jobs/new", data=form, follow_redirects=True).text
    assert "Memory of each GPU" in sent
    assert "Afterwards it answers up to 4 test questions, about 2 min." in sent
    queue = client.get("/queue").text
    assert "2 × NVIDIA L4" in queue
    assert "free on each" in queue


# --- adapters, queue, models ---------------------------------------------------------------


def test_an_adapter_page_shows_before_and_after(
    client: TestClient, db: Session, owner: User
) -> None:
    adapter = make_zipped_adapter(db, owner)
    sign_in(client, db, owner)
    html = client.get(f"/adapters/{adapter.id}").text
    for words in (
        "2.50",
        "1.25",
        "50% less",
        "Its loss on unseen questions fell.",
        "Nowhere.",
        "Room 7!",
        "adapter_model.safetensors",
    ):
        assert words in html
    client.post(f"/adapters/{adapter.id}/delete")
    assert client.get(f"/adapters/{adapter.id}").status_code == 404


def test_other_departments_jobs_are_counted_not_named(
    client: TestClient, db: Session, owner: User
) -> None:
    make_job(db, user=owner)
    secret = make_job(db, user=make_user(db, department=make_department(db)))
    secret.name = "Secret exam"
    db.add(
        Worker(id="gpu-0@here", queue="gpu", host="here", boot_id="b", devices=["cpu"], version="1")
    )
    db.commit()
    sign_in(client, db, owner)
    html = client.get("/queue").text
    assert "Secret exam" not in html
    assert "1 job of other departments" in html
    assert "gpu-0@here" not in html
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    html = client.get("/queue").text
    assert "Secret exam" in html
    assert "gpu-0@here" in html


def test_only_administrators_add_models(client: TestClient, db: Session, owner: User) -> None:
    sign_in(client, db, owner)
    form = {"path": "/nowhere/at-all", "name": "house/new"}
    assert client.post("/models", data=form).status_code == 403
    sign_in(client, db, make_user(db, role=Role.ADMIN))
    refused = client.post("/models", data=form)
    assert refused.status_code == 422
    assert "There is nothing at /nowhere/at-all on the server." in refused.text
    assert 'value="house/new"' in refused.text
    client.post("/models", data={"path": "/tmp", "name": "house/new"})
    assert db.scalars(select(BaseModel)).one().name == "house/new"


def test_the_list_shows_what_the_test_questions_said(
    client: TestClient, db: Session, owner: User
) -> None:
    sign_in(client, db, owner)
    assert "No jobs yet." in client.get("/jobs").text
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, step=20, total_steps=20)
    for step, value in ((0, 2.5), (10, 1.5), (20, 1.6)):
        at = datetime.now(UTC)
        row = {"job_id": job.id, "attempt": 1, "seq": step, "at": at}
        db.add(Metric(step=step, name="validation_loss", value=value, **row))
    db.commit()
    html = client.get("/jobs").text
    assert "1.50 " in html
    assert "from 2.50" in html
    # What was kept counts, and is one figure wherever it stands.
    html = client.get(f"/jobs/{job.id}").text
    assert "fell from 2.50 to 1.50. What it had learned by step 10 was kept." in html
    assert re.search(r'data-figure="test_loss">1\.50<', html)
    assert 'data-figure="first_test_loss">from 2.50<' in html
    # With one figure alone there is none to come from, and no word that leads to it.
    db.execute(delete(Metric).where(Metric.step > 0))
    job.total_steps = None
    db.commit()
    html = client.get(f"/jobs/{job.id}").text
    assert 'data-figure="first_test_loss"></span>' in html
    assert 'data-figure="total_steps"></span>' in html
    assert "from —" not in html and "of —" not in html


def test_a_longer_list_asks_no_more_questions(client: TestClient, db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner)
    made: list[int] = []
    sign_in(client, db, owner)

    def asked(num_jobs: int) -> int:
        for _ in range(num_jobs):
            job = make_job(db, user=owner, version=version, status=JobStatus.SUCCEEDED, step=9)
            made.append(job.id)
            row = {"job_id": job.id, "attempt": 1, "seq": 1, "step": 9, "at": datetime.now(UTC)}
            db.add(Metric(**row, name="validation_loss", value=1.5))
        db.commit()
        client.get("/jobs")
        said: list[object] = []

        def note(*seen: object) -> None:
            said.append(seen[2])

        event.listen(db.get_bind(), "before_cursor_execute", note)
        try:
            assert client.get("/jobs").text.count("1.50") == len(made)
        finally:
            event.remove(db.get_bind(), "before_cursor_execute", note)
        return len(said)

    assert asked(2) == asked(20)


def test_older_jobs_are_a_page_further(client: TestClient, db: Session, owner: User) -> None:
    version = make_dataset_version(db, user=owner)
    made = [make_job(db, user=owner, version=version).id for _ in range(60)]
    sign_in(client, db, owner)

    def shown(path: str) -> list[int]:
        return [int(number) for number in re.findall(r'href="/jobs/(\d+)"', client.get(path).text)]

    assert shown("/jobs") == made[:9:-1]
    assert 'rel="next" href="/jobs?page=2"' in client.get("/jobs").text
    older = client.get("/jobs?page=2").text
    assert shown("/jobs?page=2") == made[9::-1]
    assert 'rel="next"' not in older
    assert 'rel="prev" href="/jobs"' in older
    assert shown("/jobs?page=x") == made[:9:-1]
    assert shown("/jobs?page=9") == made[:9:-1], "a page that is gone is the first"


def test_the_learning_rate_follows_the_models_width(
    client: TestClient, db: Session, owner: User
) -> None:
    form = form_of(db, owner, preset="balanced")
    model = db.scalars(select(BaseModel)).one()
    model.config = {"hidden_size": 4096, "model_type": "llama"}
    model.num_parameters = 8_030_000_000
    db.commit()
    sign_in(client, db, owner)

    def rate(**changes: str) -> float:
        answer = client.post("/jobs/new", data=form | changes, follow_redirects=False)
        assert answer.status_code == 303
        job = db.scalars(select(Job).order_by(Job.id.desc()).limit(1)).one()
        return float(job.config["learning_rate"])

    def said(**changes: str) -> str:
        html = client.post("/jobs/new/estimate", data=form | changes).text
        found = re.search(r'id="rate">([^<]*)', html)
        return found[1] if found else ""

    assert (rate(), rate(preset="quick"), rate(preset="thorough")) == (2.9e-4, 5.8e-4, 1.45e-4)
    assert said() == "Learning rate 0.00029, as proposed for this model."
    assert said(preset="quick").startswith("Learning rate 0.00058: twice the 0.00029 proposed")
    assert rate(rate_rule="paper") == 2e-4
    assert "QLoRA paper" in said(rate_rule="paper")
    assert rate(learning_rate="0.003", rate_rule="paper") == 0.003
    html = client.get(f"/jobs/{db.scalars(select(Job.id).order_by(Job.id)).first()}").text
    assert "Balanced</p>" in html  # and nothing is called changed


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_size": 4096, "model_type": "llama"}, 2.9e-4),
        ({"hidden_size": 2048, "model_type": "llama"}, 4.9e-4),
        ({"hidden_size": 4096, "model_type": "qwen3"}, 4.7e-4),
        ({"hidden_size": 576, "model_type": "llama"}, 5e-4),
        ({"hidden_size": 65536, "model_type": "mistral"}, 1e-4),
        (None, 5e-4),
    ],
)
def test_proposed_rates_are_tinkers_within_bounds(
    config: dict[str, Any] | None, expected: float
) -> None:
    assert proposed_learning_rate(config) == expected


def test_what_to_learn_is_asked_where_the_data_has_pairs(
    client: TestClient, db: Session, owner: User
) -> None:
    form = form_of(db, owner)
    pairs = make_dataset_version(db, user=owner, kind=ExampleKind.PREFERENCE)
    texts = make_dataset_version(db, user=owner, kind=ExampleKind.TEXT)
    sign_in(client, db, owner)
    shown = {
        version: client.get(f"/jobs/new?version={version}").text
        for version in (form["version_id"], pairs.id, texts.id)
    }
    assert ["pairs of a better" in html for html in shown.values()] == [False, True, False]
    assert ["continued pretraining" in html for html in shown.values()] == [False, False, True]
    assert re.search(r'value="dpo" checked', shown[pairs.id])
    assert "a tenth of the usual rate" in shown[pairs.id]
    assert 'class="change" open' not in shown[pairs.id]
    form |= {"version_id": str(pairs.id)}
    swapped = client.post("/jobs/new/objective", data=form).text
    assert 'name="objective"' in swapped
    assert "<html" not in swapped
    # Without JavaScript the other data may have been chosen after the page was shown.
    wrong = client.post("/jobs/new", data=form)
    assert wrong.status_code == 422
    assert "Choose what the model should learn from these pairs." in wrong.text
    sent = form | {"objective": "dpo", "dpo_beta": "0,2"}
    assert client.post("/jobs/new", data=sent, follow_redirects=False).status_code == 303
    plain = form_of(db, owner, objective="dpo")
    assert client.post("/jobs/new", data=plain, follow_redirects=False).status_code == 303
    first, second = db.scalars(select(Job).order_by(Job.id))
    assert (first.config["objective"], first.config["dpo_beta"]) == ("dpo", 0.2)
    assert first.config["learning_rate"] == 1e-4  # Quick: twice a tenth of 0.0005
    assert second.config["objective"] == "supervised"
    assert "Quick, 1 change<" in client.get(f"/jobs/{first.id}").text
    assert re.search(r'value="dpo" checked', client.get(f"/jobs/new?copy_of={first.id}").text)


def test_a_job_on_pairs_says_how_often_it_prefers_the_better_answer(
    client: TestClient, db: Session, owner: User
) -> None:
    config = PRESETS["quick"].settings(None, "dpo")
    job = make_job(db, user=owner, status=JobStatus.SUCCEEDED, config=config, total_steps=9)
    for seq, (step, loss, share) in enumerate([(0, 0.69, 0.5), (9, 0.31, 0.875)]):
        point = {"job_id": job.id, "step": step, "attempt": 1, "seq": seq, "at": datetime.now(UTC)}
        db.add(Metric(**point, name="validation_loss", value=loss))
        db.add(Metric(**point, name="validation_preferred_share", value=share))
    cut = {"num_truncated": 3, "num_cut_tokens": 1200, "num_cut_answers": 1}
    db.add(JobEvent(job_id=job.id, seq=9, level="warn", kind="plan", message="m", data=cut))
    db.commit()
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    assert (
        "it prefers the better of two answers to 88% of the test questions. What it had learned "
        "by step 9" in html
    )
    preferred = r'data-figure="preferred">88%</b>\s*<span data-figure="first_preferred">from 50%'
    assert re.search(preferred, html)
    assert "3 examples are too long and are cut, at the beginning of their question first." in html
    assert "1,200 tokens are lost. 1 of them also loses part of its answer." in html


def test_a_job_says_apart_what_is_cut_of_its_practice_and_check_rows(
    client: TestClient, db: Session, owner: User
) -> None:
    version = make_dataset_version(db, user=owner, num_train=96, num_validation=12, num_test=24)
    job = make_job(db, user=owner, version=version, status=JobStatus.SUCCEEDED)
    cut = {"num_truncated": 0, "num_cut_tokens": 0, "num_cut_answers": 0}
    cut |= {f"num_checked_{name[4:]}": 2 for name in cut}
    db.add(JobEvent(job_id=job.id, seq=9, level="warn", kind="plan", message="m", data=cut))
    job.samples = [
        {"question": "Where?", "reference": "", "base": "On and", "tuned": "Up.",
         "is_base_cut": True, "is_tuned_cut": False}
    ]  # fmt: skip
    db.commit()
    sign_in(client, db, owner)
    html = client.get(f"/jobs/{job.id}").text
    assert "practice example" not in html
    assert (
        "2 check examples are too long and are cut in the same way, so the loss is on what is left "
        "of them. 2 tokens are lost. 2 of them also lose part of their answer." in html
    )
    assert re.search(r"On and <span[^>]*>\(cut here", html)
    assert html.count("(cut here") == 1


def test_another_jobs_curve_is_laid_over_it(client: TestClient, db: Session) -> None:
    user = make_user(db)
    sign_in(client, db, user)
    job, other = (make_job(db, user=user, name=name, step=2) for name in ("First", "Other"))
    for step in (1, 2):
        db.add(
            Metric(
                job_id=other.id,
                step=step,
                name="loss",
                value=2.5 - step,
                attempt=1,
                seq=step,
                at=datetime.now(UTC),
            )
        )
    other.event_seq = 2
    stranger = make_job(db, user=make_user(db, department=make_department(db)), step=1)
    db.commit()
    shown = client.get(f"/jobs/{job.id}").text
    assert f'<option value="{other.id}">Other</option>' in shown
    assert f'<option value="{stranger.id}">' not in shown
    assert "data-beside-points" not in shown
    laid = client.get(f"/jobs/{job.id}", params={"beside": other.id}).text
    (points,) = re.findall(r"data-beside-points>(.*?)</script>", laid)
    assert json.loads(points)["loss"] == [1.5, 0.5]
    for wrong in (stranger.id, job.id, "x", "-1", 10**12):
        assert (
            "data-beside-points" not in client.get(f"/jobs/{job.id}", params={"beside": wrong}).text
        )
