"""Exports for programs: asked for, followed, cancelled and fetched."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from openai import (
    APIStatusError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from sqlalchemy.orm import Session

from app.adapters import programs
from app.core.models import ExportStatus, Role, User
from app.people import auth
from tests import patience
from tests.app.web.adapters.test_exports import ready
from tests.app.web.v1.conftest import connect
from tests.app.web.v1.stand_in_answerer import StandIn
from tests.factories import make_adapter, make_department, make_user


def post(api: OpenAI, path: str, **body: object) -> dict[str, object]:
    return api.post(path, body=body, cast_to=dict)


def test_a_program_asks_follows_and_cancels(api: OpenAI, db: Session, user: User) -> None:
    adapter = make_adapter(db, user=user)
    made = post(api, "/x_exports", model=adapter.public_name, format="ollama")
    assert (made["status"], made["quantization"]) == ("waiting", "q8_0")
    assert (made["object"], made["bytes"], made["agreement"]) == ("x_export", None, [])
    same = post(api, "/x_exports", model=adapter.public_name, format="ollama")
    assert same["id"] == made["id"]
    listed = api.get(f"/x_exports?model={adapter.public_name}", cast_to=dict)
    assert [each["id"] for each in listed["data"]] == [made["id"]]
    assert post(api, f"/x_exports/{made['id']}/cancel")["status"] == "cancelled"
    with pytest.raises(APIStatusError) as refused:
        post(api, f"/x_exports/{made['id']}/cancel")
    assert (refused.value.status_code, refused.value.code) == (400, "invalid_state")
    assert "over already" in str(refused.value)
    assert "page" not in str(refused.value)


def test_what_is_ready_is_fetched(api: OpenAI, db: Session, user: User) -> None:
    adapter = make_adapter(db, user=user)
    row = ready(db, adapter, b"all of it")
    shown = api.get(f"/x_exports/{row.public_id}", cast_to=dict)
    assert (shown["bytes"], shown["sha256"]) == (9, row.sha256)
    assert shown["agreement"][0]["num_positions"] == 412
    assert shown["agreement"][0]["endings"]["num_ended"] == 17
    content = api.get(f"/x_exports/{row.public_id}/content", cast_to=bytes)
    assert content == b"all of it"
    row.status, row.storage_key = ExportStatus.GONE, None
    db.commit()
    with pytest.raises(APIStatusError) as refused:
        api.get(f"/x_exports/{row.public_id}/content", cast_to=bytes)
    assert refused.value.status_code == 409


def test_a_loss_that_is_no_number_is_null(api: OpenAI, db: Session, user: User) -> None:
    row = ready(db, make_adapter(db, user=user))
    row.agreement = [row.agreement[0] | {"loss": None}]
    db.commit()
    shown = api.get(f"/x_exports/{row.public_id}", cast_to=dict)
    assert (shown["agreement"][0]["loss"], shown["agreement"][0]["reference_loss"]) == (None, 2.703)


def test_strangers_viewers_and_odd_wishes_are_refused(
    api: OpenAI, db: Session, user: User, address: str
) -> None:
    adapter = make_adapter(db, user=user)
    row = ready(db, adapter)
    for body in ({"format": "zip"}, {"format": "merged", "quantization": "q8_0"}, {}):
        with pytest.raises((UnprocessableEntityError, APIStatusError)) as odd:
            post(api, "/x_exports", model=adapter.public_name, **body)
        assert odd.value.status_code in (400, 422)
    viewer = connect(db, address, make_user(db, role=Role.VIEWER))
    with viewer, pytest.raises(PermissionDeniedError):
        post(viewer, "/x_exports", model=adapter.public_name, format="adapter")
    elsewhere = make_user(db, department=make_department(db))
    with connect(db, address, elsewhere) as stranger:
        for path in (f"/x_exports/{row.public_id}", f"/x_exports/{row.public_id}/content"):
            with pytest.raises(NotFoundError):
                stranger.get(path, cast_to=dict)


def test_the_pages_command_is_pasted_and_answers(
    db: Session, address: str, user: User, answerer: StandIn, tmp_path: Path
) -> None:
    adapter = make_adapter(db, user=user)
    token = auth.create_token(db, user, "tests")
    db.commit()
    browser = next(each for each in programs.of(adapter, address) if each.key == "browser")
    (command,) = [step.command for step in browser.steps if step.command]
    pasted = subprocess.run(
        ["bash", "-c", command.replace("your-token", token)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},  # nothing of Etude's own
        timeout=patience.seconds(60),
    )
    assert pasted.returncode == 0, pasted.stderr
    said = json.loads(pasted.stdout)
    assert said["choices"][0]["message"]["content"] == "Hello there."
