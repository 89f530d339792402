"""What a person's unfinished uploads may hold: so many, and so much room together."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import Conflict
from app.core.models import User
from app.datasets import part_uploads, uploads
from tests.factories import make_user

Begin = Callable[[User, int], object]
WAYS: list[Begin] = [
    lambda user, size: uploads.start(user, "rounds.csv", "", size),
    lambda user, size: part_uploads.start(user, "rounds.jsonl", size),
]


@pytest.fixture(autouse=True)
def small_files(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETUDE_MAX_UPLOAD_BYTES", "1000")
    settings.get.cache_clear()


@pytest.mark.parametrize("begin", WAYS, ids=["browser", "parts"])
def test_unfinished_uploads_hold_so_much_and_no_more(db: Session, begin: Begin) -> None:
    ada, ben = make_user(db), make_user(db)
    for size in (1000, 1000, 1000, 900):
        begin(ada, size)
    with pytest.raises(Conflict, match="too much room together; complete or cancel one"):
        begin(ada, 101)
    begin(ada, 100)
    begin(ben, 1000)


@pytest.mark.parametrize("begin", WAYS, ids=["browser", "parts"])
def test_unfinished_uploads_are_so_many_and_no_more(db: Session, begin: Begin) -> None:
    ada, ben = make_user(db), make_user(db)
    for _ in range(uploads.MAX_OPEN_UPLOADS):
        begin(ada, 1)
    with pytest.raises(Conflict, match="You have 20 uploads under way"):
        begin(ada, 1)
    begin(ben, 1)


def test_room_comes_back_with_an_upload_that_was_cancelled(db: Session) -> None:
    ada = make_user(db)
    first, *_ = [uploads.start(ada, "rounds.csv", "", 1000) for _ in range(4)]
    uploads.cancel(first)
    uploads.start(ada, "rounds.csv", "", 1000)


@pytest.mark.parametrize("begin", WAYS, ids=["browser", "parts"])
def test_uploads_that_begin_at_once_are_counted_one_by_one(db: Session, begin: Begin) -> None:
    ada = make_user(db)

    def try_it(_: int) -> bool:
        try:
            begin(ada, 1000)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as crowd:
        assert sum(crowd.map(try_it, range(40))) == 4
