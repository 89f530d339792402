"""Lists hear of what changes in them, and of nothing else; the page then asks for itself."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import psycopg
import pytest
from sqlalchemy.orm import Session

from app.core.models import (
    Adapter,
    BaseModel,
    DatasetVersion,
    Job,
    JobStatus,
    Release,
    Role,
    User,
    VersionStatus,
)
from app.people import auth
from tests import http, patience
from tests.app.web.serving import serving
from tests.factories import make_adapter, make_dataset_version, make_user


@pytest.fixture
def owner(db: Session) -> User:
    return make_user(db, role=Role.ADMIN)


def test_every_change_that_a_list_shows_rings_for_it_once(
    db: Session, database_url: str, owner: User
) -> None:
    adapter = make_adapter(db, user=owner)
    job, model = adapter.job, adapter.base_model
    assert job is not None
    going = Job(
        department_id=owner.department_id,
        owner_id=owner.id,
        name="Nights",
        version_id=job.version_id,
        base_model_id=model.id,
        config=job.config,
    )
    version = make_dataset_version(db, user=owner, status=VersionStatus.MAPPING)
    own = owner.department_id
    changes: list[tuple[Callable[[], object], set[str]]] = [
        (lambda: db.add(going), {f"list:jobs:{own}"}),
        (lambda: setattr(going, "status", JobStatus.CANCELLED), {f"list:jobs:{own}"}),
        (lambda: setattr(going, "priority", 7), set()),
        (lambda: db.delete(going), {f"list:jobs:{own}"}),
        (lambda: setattr(version, "status", VersionStatus.FAILED), {f"list:data:{own}"}),
        (lambda: setattr(version, "split_seed", 7), set()),
        (lambda: setattr(version.dataset, "name", "Nights"), {f"list:data:{own}"}),
        (lambda: setattr(adapter, "release", Release.RELEASED), {f"list:adapters:{own}"}),
        (lambda: setattr(adapter, "binned_at", datetime.now(UTC)), {f"list:adapters:{own}"}),
        (lambda: setattr(job, "binned_at", datetime.now(UTC)), {f"list:jobs:{own}"}),
        (lambda: setattr(model, "reason", "so"), {"list:models:0"}),
        (lambda: setattr(model, "progress", {"doing": "downloading"}), {"list:models:0"}),
        (lambda: setattr(model, "note", "small"), set()),
    ]
    address = database_url.replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("LISTEN etude")
        for change, expected in changes:
            change()
            db.commit()
            # Whatever was rung before this is there by then.
            connection.execute("SELECT pg_notify('etude', 'done')")
            heard = set()
            for told in connection.notifies(timeout=patience.seconds(30)):
                if told.payload == "done":
                    break
                heard.add(told.payload)
            assert heard == expected, expected
    for table in (Adapter, BaseModel, DatasetVersion):
        assert db.get(table, 0) is None


def test_a_list_that_is_open_hears_of_a_change(
    db: Session, broker: str, owner: User, tmp_path: Path
) -> None:
    version = make_dataset_version(db, user=owner, status=VersionStatus.UPLOADED)
    cookies = {auth.COOKIE: auth.open_session(db, owner)}
    db.commit()
    with serving(tmp_path) as (port, _):
        address = f"http://127.0.0.1:{port}/streams"
        assert http.get(f"{address}/data/events").status_code == 401
        assert http.get(f"{address}/people/events", cookies=cookies).status_code == 404
        with httpx2.stream(
            "GET", f"{address}/data/events", cookies=cookies, timeout=patience.seconds(60)
        ) as answer:
            lines = answer.iter_lines()
            _next_change(lines)
            version.status = VersionStatus.MAPPING
            db.commit()
            _next_change(lines)


def _next_change(lines: Iterator[str]) -> None:
    assert any(line == "event: changed" for line in lines)
