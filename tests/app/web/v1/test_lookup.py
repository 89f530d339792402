"""/v1: rows looked up for a question, by a model that does so or because a program asks for it."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from sqlalchemy.orm import Session

from app.core.models import Adapter, AdapterKind, BaseModel, Release, Role, User, VersionStatus
from app.evaluation import lookups
from tests import factories
from tests.app.web.v1.conftest import connect
from tests.app.web.v1.stand_in_answerer import StandIn
from tests.app.web.v1.test_chat import ASKED, chunks, send, whole

ROW = {"index": 7, "question": "What is rule 7?", "answer": "Rule 7 says: wash your hands."}


@pytest.fixture
def adapter(db: Session, user: User, model: BaseModel) -> Adapter:
    return factories.make_lookup(db, user=user)


def file_of(adapter: Adapter) -> str:
    assert adapter.lookup_version is not None
    return adapter.lookup_version.file.public_id


def looking(lookup: object) -> dict[str, Any]:
    return {"extra_body": {"x_etude": {"lookup": lookup}}}


def test_a_model_that_looks_up_tells_its_rows(
    api: OpenAI, adapter: Adapter, answerer: StandIn
) -> None:
    completion = whole(api, model=adapter.public_name)
    assert completion.model == adapter.public_name
    rows = completion.x_sources
    assert rows[0] == {"file": file_of(adapter), **ROW}
    assert len(rows) == 4
    asked = answerer.asked
    assert (asked.adapter_id, len(asked.messages)) == (adapter.id, 1)
    assert ROW["answer"] in asked.messages[0]["content"]
    assert asked.messages[0]["content"].endswith("What is rule 7?")


def test_a_stream_tells_them_with_its_first_chunk(
    api: OpenAI, adapter: Adapter, answerer: StandIn
) -> None:
    first, *others = chunks(api, model=adapter.public_name, n=2)
    assert first.model_extra is not None
    assert first.model_extra["x_sources"][0] == {"file": file_of(adapter), **ROW}
    assert all("x_sources" not in (one.model_extra or {}) for one in others)


def test_a_starting_model_looks_up_in_a_file(
    api: OpenAI, adapter: Adapter, answerer: StandIn
) -> None:
    completion = whole(api, **looking(file_of(adapter)))
    assert completion.x_sources[0]["index"] == 7
    assert ROW["answer"] in answerer.asked.messages[0]["content"]
    # Without the wish it is asked as it stands, and says nothing of rows.
    plain = whole(api)
    assert "x_sources" not in (plain.model_extra or {})
    assert answerer.asked.messages == ASKED
    nothing = whole(
        api, messages=[{"role": "user", "content": "Quantum!"}], **looking(file_of(adapter))
    )
    assert nothing.x_sources == []


def test_a_tuned_model_looks_up_in_its_own_data(
    api: OpenAI, db: Session, user: User, model: BaseModel, answerer: StandIn
) -> None:
    version = factories.make_dataset_version(db, user=user)
    job = factories.make_job(db, user=user, version=version, base_model=model)
    tuned = factories.make_adapter(db, job=job)
    completion = whole(api, model=tuned.public_name, **looking(True))
    assert completion.x_sources[0]["file"] == version.file.public_id
    assert answerer.asked.adapter_id == tuned.id
    assert "x_sources" not in (whole(api, model=tuned.public_name).model_extra or {})


@pytest.mark.parametrize(
    ("lookup", "status", "words"),
    [
        ("file-nowhere", 404, "there is no file"),
        (True, 400, "has no data of its own"),
        (7, 400, ""),
        ({"file": "x"}, 400, ""),
    ],
)
def test_what_cannot_be_looked_up_in_is_refused_by_name(
    api: OpenAI, model: BaseModel, answerer: StandIn, lookup: object, status: int, words: str
) -> None:
    answer = send(api, {"model": "house/tiny", "messages": ASKED, "x_etude": {"lookup": lookup}})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert str(error["param"]).startswith("x_etude.lookup")
    assert words in error["message"]


def test_files_of_others_and_files_that_are_not_ready(
    api: OpenAI, db: Session, user: User, model: BaseModel, answerer: StandIn
) -> None:
    stranger = factories.make_user(db, department=factories.make_department(db))
    theirs = factories.make_dataset_version(db, user=stranger)
    unread = factories.make_dataset_version(db, user=user, status=VersionStatus.UPLOADED)
    with pytest.raises(openai.NotFoundError) as refused:
        whole(api, **looking(theirs.file.public_id))
    assert refused.value.param == "x_etude.lookup"
    with pytest.raises(openai.BadRequestError, match="not ready") as refused_too:
        whole(api, **looking(unread.file.public_id))
    assert refused_too.value.param == "x_etude.lookup"


def test_it_is_listed_and_a_viewer_asks_it_once_released(
    api: OpenAI, db: Session, address: str, adapter: Adapter, answerer: StandIn, user: User
) -> None:
    shown = api.models.retrieve(adapter.public_name)
    extra = shown.model_extra or {}
    assert (extra["x_kind"], extra["x_lookup"]) == ("lookup", file_of(adapter))
    assert (extra["x_metrics"], extra["x_job"]) == (None, None)
    viewer = factories.make_user(db, role=Role.VIEWER)
    with connect(db, address, viewer) as theirs:
        with pytest.raises(openai.PermissionDeniedError):
            whole(theirs, model=adapter.public_name)
        adapter.release = Release.RELEASED
        db.commit()
        assert whole(theirs, model=adapter.public_name).x_sources[0]["index"] == 7


def test_a_starting_model_alone_answers_without_rows(
    api: OpenAI, db: Session, user: User, adapter: Adapter, answerer: StandIn
) -> None:
    version = adapter.lookup_version
    assert version is not None
    alone = lookups.use(db, user, version, adapter.base_model, kind=AdapterKind.ALONE)
    db.commit()
    extra = api.models.retrieve(alone.public_name).model_extra or {}
    assert (extra["x_kind"], extra["x_lookup"]) == ("untrained", None)
    assert alone.public_name in {model.id for model in api.models.list()}
    completion = whole(api, model=alone.public_name)
    assert (completion.model_extra or {}).get("x_sources") is None
    assert answerer.asked.messages == ASKED
