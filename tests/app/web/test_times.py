"""Every time that a person reads is on the clock of the site, wherever its processes run."""

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core import settings
from app.core.models import JobEvent, JobStatus, Role
from app.evaluation import report
from app.jobs import metrics
from app.ops import job_command
from tests.app.evaluation.test_report import text_of
from tests.app.web.pages import sign_in
from tests.factories import make_adapter, make_evaluation, make_job, make_user

ROOT = Path(__file__).resolve().parents[3]
# No machine that tests run on keeps this time: 5 h 45 min ahead of UTC.
SITE = ZoneInfo("Asia/Kathmandu")
AT = datetime(2026, 11, 23, 19, 20, 5, tzinfo=UTC)  # there 24 Nov, 01:05:05
_TIME = re.compile(r'<time datetime="([^"]+)" title="([^"]+)"')


@pytest.fixture(autouse=True)
def _site(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert datetime.now(UTC).astimezone().utcoffset() != SITE.utcoffset(AT.replace(tzinfo=None))
    monkeypatch.setenv("ETUDE_TIME_ZONE", SITE.key)
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def words_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_pages_are_on_the_clock_of_the_site(client: TestClient, db: Session) -> None:
    user = make_user(db, role=Role.ADMIN)
    job = make_job(
        db, user=user, status=JobStatus.SUCCEEDED, created_at=AT, finished_at=AT, event_seq=1
    )
    note = JobEvent(job_id=job.id, seq=1, level="info", kind="note", message="All read.", at=AT)
    make_adapter(db, job=job)
    bin_days = timedelta(days=settings.get().bin_days)
    binned_at = datetime.now(UTC).replace(hour=19, minute=20, second=0)
    binned = make_job(
        db, user=user, status=JobStatus.SUCCEEDED, binned_at=binned_at, binned_by_id=user.id
    )
    db.add(note)
    db.commit()
    sign_in(client, db, user)

    address = f"/jobs/{job.id}"
    for page in ("/", "/jobs", address, "/bin", "/adapters", "/datasets", "/account", "/queue"):
        shown = client.get(page)
        assert shown.status_code == 200
        for at, title in _TIME.findall(shown.text):
            assert title == f"{datetime.fromisoformat(at).astimezone(SITE):%-d %b %Y, %H:%M}", page
    assert 'title="24 Nov 2026, 01:05"' in client.get(address).text
    assert "01:05:05 All read." in words_of(client.get(address).text)

    until = (binned_at + bin_days).astimezone(SITE)
    assert f"{until:%-d %b %Y, 01:05}" in words_of(client.get("/bin").text)
    gone = words_of(client.get(f"/jobs?binned={binned.id}").text)
    assert f"is in the bin until {until:%-d %b}." in gone

    missing = client.get("/jobs/99999").text
    said = re.search(r"request \S+, ([\d-]+ [\d:]+) (\+\d+)", missing)
    assert said is not None
    assert said[2] == "+0545"
    here = datetime.fromisoformat(f"{said[1]}{said[2]}")
    assert abs(datetime.now(UTC) - here) < timedelta(hours=1)


def test_what_comes_later_by_the_stream_is_too(db: Session) -> None:
    job = make_job(db, event_seq=1)
    note = JobEvent(job_id=job.id, seq=1, level="info", kind="note", message="All read.", at=AT)
    db.add(note)
    db.commit()
    [item] = metrics.after(db, job, 0, 10)
    assert item.data["time"] == "01:05:05"


def test_reports_are_too(db: Session) -> None:
    made = make_evaluation(db)
    assert made.adapter is not None
    made.finished_at = made.adapter.created_at = AT
    db.commit()
    written = report.write(db, made)
    lines = [line for part in written.parts for line in part.lines]
    assert ("Done", "24 Nov 2026, 01:05") in lines
    assert ("Made", "24 Nov 2026, 01:05") in lines
    assert f"{written.made.astimezone(SITE):%-d %B %Y, %H:%M}" in text_of(report.pdf(written))


def test_the_command_line_is_too() -> None:
    job = {
        "id": "ftjob-1", "x_job_id": 1, "x_name": "Ward", "x_state": "succeeded", "x_step": 1,
        "x_total_steps": 1, "x_why": None, "x_position": None, "x_metrics": None, "x_chosen_by": "",
        "model": "tiny", "error": None, "status": "succeeded", "fine_tuned_model": None,
        "created_at": int(AT.timestamp()), "finished_at": int(AT.timestamp()),
        "estimated_finish": None,
    }  # fmt: skip
    shown = job_command.as_text(job, "http://127.0.0.1")
    assert shown.count("2026-11-24 01:05") == 2


def test_nothing_asks_the_process_or_the_browser_for_its_zone() -> None:
    own = re.compile(
        r"astimezone\(\)|localtime\(|ctime\(|time\.strftime|Date\(|toLocale(?:Date|Time)"
        r"|fromtimestamp\([^(),]*\)"
    )
    files = [
        *sorted((ROOT / "app").rglob("*.py")),
        *sorted((ROOT / "worker").rglob("*.py")),
        *sorted((ROOT / "templates").rglob("*.html")),
        *sorted((ROOT / "static" / "js").glob("*.js")),
    ]
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in files
        for match in own.finditer(path.read_text())
    ]
    # Where the process's zone is the default.
    assert found == ["app/core/settings.py: astimezone()"]
