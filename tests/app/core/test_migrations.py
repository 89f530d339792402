"""Migrations go up, match the models and go down."""

import os
import subprocess
import sys

import pytest
from sqlalchemy import Connection, inspect, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import migrations
from app.core.models import DatasetVersion, Job, JobStatus, Webhook
from app.people import auth
from tests.factories import make_dataset_version, make_job, make_user


def test_the_tables_match_the_models(owner: Connection) -> None:
    migrations.check(owner.engine)


def test_migrations_go_down_and_up_again(owner: Connection) -> None:
    migrations.downgrade(owner.engine)
    assert inspect(owner.engine).get_table_names() == ["alembic_version"]
    migrations.upgrade(owner.engine)
    assert "job" in inspect(owner.engine).get_table_names()


def test_files_are_named_after_their_revisions_in_order() -> None:
    """What this code knows is read off the names, without alembic."""
    steps = migrations.steps_from(None)
    assert [step.revision for step in steps] == sorted(step.revision for step in steps)
    assert all(step.path.name.startswith(f"{step.revision}_") for step in steps)
    assert migrations.head() == steps[-1].revision
    assert all(migrations.is_known(step.revision) for step in steps)
    assert not migrations.is_known("9999")


def test_where_nothing_is_to_do_alembic_is_not_even_loaded(owner: Connection) -> None:
    program = "import sys; from app.core import db, migrations; "
    program += "migrations.upgrade(db.engine()); sys.exit('alembic' in sys.modules)"
    address = {"DATABASE_URL": os.environ["DATABASE_OWNER_URL"]}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | address)
    assert done.returncode == 0


def test_a_final_status_never_changes(db: Session) -> None:
    make_job(db, status=JobStatus.SUCCEEDED)
    with pytest.raises(DBAPIError, match="final"):
        db.execute(update(Job).values(status=JobStatus.QUEUED))
    db.rollback()


def test_versions_from_before_keep_two_parts(db: Session, owner: Connection) -> None:
    three = make_dataset_version(db, num_train=12, num_validation=2, num_test=3)
    two = make_dataset_version(db, num_train=12, num_validation=4)
    ids = three.id, two.id
    db.close()
    migrations.downgrade(owner.engine, "0018")
    counts = text("SELECT split, count(*) FROM example WHERE version_id = :id GROUP BY split")
    # What was kept from practice is so still.
    found = {row[0]: row[1] for row in db.execute(counts, {"id": ids[0]})}
    assert found == {"train": 12, "validation": 5}
    with pytest.raises(DBAPIError, match="ck_example_split"):
        db.execute(text("UPDATE example SET split = 'test'"))
    db.rollback()
    db.close()
    migrations.upgrade(owner.engine)
    for version_id, num_validation in zip(ids, (5, 4), strict=True):
        version = db.get_one(DatasetVersion, version_id)
        assert (version.num_train, version.num_validation) == (12, num_validation)
        assert version.num_test is None


def test_receivers_from_before_may_still_be_inside_the_network(
    db: Session, owner: Connection
) -> None:
    db.close()
    migrations.downgrade(owner.engine, "0023")
    db.execute(text("INSERT INTO webhook (name, url) VALUES ('Board', 'http://10.0.0.7/')"))
    db.commit()
    db.close()
    migrations.upgrade(owner.engine)
    db.add(Webhook(name="New board", url="http://10.0.0.8/"))
    db.commit()
    query = select(Webhook.name, Webhook.may_be_inside).order_by(Webhook.id)
    assert [tuple(row) for row in db.execute(query)] == [("Board", True), ("New board", False)]


def test_who_is_signed_in_stays_so(db: Session, owner: Connection) -> None:
    secret = auth.open_session(db, make_user(db))
    db.commit()
    db.close()
    migrations.downgrade(owner.engine, "0023")
    migrations.upgrade(owner.engine)
    assert auth.user_of_session(db, secret) is not None
