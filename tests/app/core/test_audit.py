"""The audit log cannot be edited, and an edit behind its back shows."""

import pytest
from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core import audit
from app.core.models import AuditEvent


def test_the_chain_holds_and_a_forged_event_breaks_it(db: Session) -> None:
    for number in range(3):
        audit.record(db, None, "test.operation", f"thing {number}", value=number)
    events = list(db.scalars(select(AuditEvent).order_by(AuditEvent.id)))
    assert audit.first_break(events) is None
    events[1].detail = {"value": 99}
    assert audit.first_break(events) == events[1].id
    db.expunge_all()
    assert audit.first_break(events[:1] + events[2:]) == events[2].id


@pytest.mark.parametrize("statement", [update(AuditEvent).values(actor="eve"), delete(AuditEvent)])
def test_the_database_refuses_to_change_it(db: Session, statement: object) -> None:
    audit.record(db, None, "test.operation", "thing")
    with pytest.raises(DBAPIError, match="append-only"):
        db.execute(statement)  # type: ignore[call-overload]
    db.rollback()


def test_the_database_refuses_to_empty_it(db: Session, owner: Connection) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        db.execute(text("TRUNCATE audit_event"))
    db.rollback()
    with pytest.raises(DBAPIError, match="append-only"):
        owner.execute(text("TRUNCATE audit_event"))
