"""A backup every night: when, how many are kept, and what is said of it."""

import itertools
import os
import time as clocks
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import settings
from app.core.models import AuditEvent
from app.ops.backup import nightly
from app.ops.embedded import folder as data_folder

BERLIN = ZoneInfo("Europe/Berlin")
AT = time(2, 30)


def moment(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


def test_it_is_due_at_that_time_of_the_site() -> None:
    assert nightly.next_night(moment("2026-12-01T01:00"), AT, BERLIN) == moment("2026-12-01T02:30")
    assert nightly.next_night(moment("2026-12-01T02:30"), AT, BERLIN) == moment("2026-12-02T02:30")
    # In the night in which the clocks go back a day has 25 hours.
    before = moment("2026-10-24T03:00")
    assert nightly.next_night(before, time(3, 0), BERLIN) - before == timedelta(hours=25)


def test_a_night_in_which_the_clocks_change_has_one_too() -> None:
    first, second = (moment("2026-10-25T02:30", fold) for fold in (0, 1))
    assert second - first == timedelta(hours=1)
    assert nightly.next_night(first - timedelta(minutes=20), AT, BERLIN) == first
    for now in (first, second - timedelta(minutes=20), second):
        assert nightly.next_night(now, AT, BERLIN) == moment("2026-10-26T02:30")
    # There is no 02:30: it goes from 02:00 to 03:00.
    forward = moment("2027-03-28T03:00")
    assert nightly.next_night(moment("2027-03-28T01:59"), AT, BERLIN) == forward
    assert nightly.next_night(forward, AT, BERLIN) == moment("2027-03-29T02:30")


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe"]
)
@pytest.mark.parametrize("at", [time(0), time(0, 30), AT, time(23, 30)])
def test_each_day_of_a_year_has_one(name: str, at: time) -> None:
    """Also where the clocks change at midnight, or by half an hour."""
    zone, now = ZoneInfo(name), datetime(2026, 1, 1, 12, tzinfo=UTC)
    nights = []
    for _ in range(365):
        due = nightly.next_night(now, at, zone)
        # However late the one before was done.
        late = now + (due - now) * 0.99
        assert nightly.next_night(late, at, zone) == due
        nights.append(due)
        now = due
    days = [due.astimezone(zone).date() for due in nights]
    assert days == [days[0] + timedelta(days=number) for number in range(365)]
    gaps = {after - before for before, after in itertools.pairwise(nights)}
    assert timedelta(hours=23) <= min(gaps) < max(gaps) <= timedelta(hours=25)
    assert sum(due.astimezone(zone).time() != at for due in nights) <= 1


def test_a_night_that_was_missed_is_made_up_for() -> None:
    now = moment("2026-12-02T09:00")
    due = moment("2026-12-03T02:30")
    assert nightly.first_due(now, AT, BERLIN, None) == due
    assert nightly.first_due(now, AT, BERLIN, moment("2026-12-02T02:30")) == due
    assert nightly.first_due(now, AT, BERLIN, moment("2026-11-30T02:30")) == now


def test_the_newest_are_kept(tmp_path: Path) -> None:
    names = [f"etude-202611{day:02}T013000Z.tar" for day in range(1, 11)]
    for name in (*names, "etude-before-update.tar", "notes.txt"):
        (tmp_path / name).touch()
    old, young = (tmp_path / f"etude-202611{day}T013000Z.tar.partial" for day in (11, 12))
    old.touch()
    young.touch()
    long_ago = clocks.time() - timedelta(days=3).total_seconds()
    os.utime(old, (long_ago, long_ago))
    removed = nightly.prune(tmp_path, 7)
    assert [path.name for path in removed] == names[:3]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[3:], "etude-before-update.tar", "notes.txt", young.name}


def test_one_is_taken_closed_to_others_and_told(
    db: Session, data_dir: Path, tmp_path: Path
) -> None:
    data_folder.prepare(settings.get())
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(1, 4):
        (folder / f"etude-202501{day:02}T013000Z.tar").touch()
    assert nightly.take_one(folder, 2)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept[0] == "etude-20250103T013000Z.tar"
    assert len(kept) == 2
    assert (folder / kept[1]).stat().st_mode & 0o777 == 0o600
    db.rollback()
    events = db.scalars(select(AuditEvent).where(AuditEvent.action == "backup.take")).all()
    assert [event.detail["to"] for event in events] == [str(folder / kept[1])]


def test_one_that_cannot_be_taken_is_no_end(db: Session, data_dir: Path, tmp_path: Path) -> None:
    assert not nightly.take_one(tmp_path / "gone", 7)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SystemExit, match="give the folder to the user who runs Etude"):
        nightly._require_folder(tmp_path)
