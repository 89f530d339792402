"""A page asks the database for nothing twice, however many of its parts want to know it."""

import inspect
import re
from collections import Counter
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.core import db as database
from app.people import auth
from tests.security.full_house import addresses, furnish


@pytest.mark.timeout(300)
def test_no_page_asks_for_the_same_twice(client: TestClient, db: Session) -> None:
    client.cookies.set(auth.COOKIE, auth.open_session(db, furnish(db)))
    db.commit()
    asked: Counter[tuple[str, str]] = Counter()

    def note(*given: Any) -> None:
        _, _, statement, parameters, *_ = given
        asked[statement, str(parameters)] += 1

    pages = {re.sub(r"\d+", "N", path): path for path in reversed(addresses(db))}
    twice = []
    event.listen(db.get_bind(), "before_cursor_execute", note)
    try:
        for path in pages.values():
            client.get(path)  # what it keeps for the next time is not counted
            asked.clear()
            answer = client.get(path, follow_redirects=False)
            if "text/html" not in answer.headers.get("content-type", ""):
                continue  # what is downloaded is read in sessions of its own
            twice += [
                f"{path}: {statement[:300]}" for (statement, _), num in asked.items() if num > 1
            ]
    finally:
        event.remove(db.get_bind(), "before_cursor_execute", note)
    assert not twice, "\n".join(twice)


@pytest.mark.timeout(300)
def test_no_page_leaves_anything_unsaved_behind(client: TestClient, db: Session) -> None:
    # The end of a page is a COMMIT, so what it merely tried would be kept.
    client.cookies.set(auth.COOKIE, auth.open_session(db, furnish(db)))
    db.commit()
    written: list[str] = []
    kept: list[str] = []
    num_ends = 0

    def note(*given: Any) -> None:
        if not given[2].lstrip().upper().startswith("SELECT"):
            written.append(given[2])

    def end(*_: Any) -> None:
        nonlocal num_ends
        if any(frame.function == "end_reading" for frame in inspect.stack(0)):
            num_ends += 1
            kept.extend(written)
        written.clear()

    listeners = {"before_cursor_execute": note, "commit": end, "rollback": end}
    for name, listener in listeners.items():
        event.listen(db.get_bind(), name, listener)
    try:
        for path in (paths := addresses(db)):
            client.get(path)
    finally:
        for name, listener in listeners.items():
            event.remove(db.get_bind(), name, listener)
    assert not kept
    assert num_ends > len(paths) / 2


def test_what_may_write_asks_each_time() -> None:
    found = []

    @database.read_once
    def look(_: Session, number: int, *, why: str = "") -> int:
        found.append((number, why))
        return number

    with Session() as session:
        assert [look(session, 1), look(session, 1)] == [1, 1]
        assert found == [(1, ""), (1, "")]
        database.only_reads(session)
        assert [look(session, 1), look(session, 1), look(session, 2)] == [1, 1, 2]
        assert look(session, 1, why="other") == 1
        assert found[2:] == [(1, ""), (2, ""), (1, "other")]
    with Session() as other:
        database.only_reads(other)
        assert look(other, 1) == 1
    assert found[-1] == (1, "")
