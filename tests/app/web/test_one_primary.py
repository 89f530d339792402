"""One button a page stands out, and it is what comes next in a piece of work."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from app.core.kinds import Severity
from app.core.models import (
    Arm,
    CheckStatus,
    DatasetCheck,
    DatasetVersion,
    Desired,
    EvaluationStatus,
    Finding,
    JobStatus,
    PrivacyReview,
    ReviewStatus,
    Role,
    User,
    VersionStatus,
)
from tests.app.web.pages import sign_in
from tests.factories import (
    make_adapter,
    make_base_model,
    make_dataset_version,
    make_evaluation,
    make_job,
    make_user,
    make_zipped_adapter,
)
from tests.security.full_house import addresses, furnish

# The pages of a piece of work, from its data to its use.
_WORK = re.compile(r"/(versions|jobs|adapters|evaluations|curves|votes|ask|datasets/new)\b")
_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}


class _Primaries(HTMLParser):
    """Finds the buttons that stand out, dialogs and what JavaScript hides left aside."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._open: list[bool] = []  # whether what is inside is not there to be seen
        self._is_in_one = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = (dict(attrs).get("class") or "").split()
        is_away = tag in ("dialog", "noscript") or "if-unscripted" in classes
        is_away = is_away or (bool(self._open) and self._open[-1])
        if tag not in _VOID:
            self._open.append(is_away)
        if "button" in classes and not is_away:
            self.words.append("")
            self._is_in_one = True

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID and self._open:
            self._open.pop()
        if tag in ("a", "button"):
            self._is_in_one = False

    def handle_data(self, data: str) -> None:
        if self._is_in_one:
            self.words[-1] = f"{self.words[-1]} {data}".strip()


def primaries(page: str) -> list[str]:
    found = _Primaries()
    found.feed(re.sub(r"<(script|svg)\b.*?</\1>", "", page, flags=re.DOTALL))
    return [" ".join(words.split()) for words in found.words]


def test_what_is_counted() -> None:
    page = '<a class="button">Go <b>on</b></a><dialog><button class="button">Yes</button></dialog>'
    quiet = (
        '<a class="button-quiet">No</a><span class="if-unscripted"><a class="button">B</a></span>'
    )
    assert primaries(page + quiet) == ["Go on"]
    assert primaries('<button class="button" disabled>Ask</button>') == ["Ask"]


def test_no_page_of_a_piece_of_work_has_two(client: TestClient, db: Session, broker: str) -> None:
    sign_in(client, db, furnish(db))
    many = []
    num_looked = 0
    for address in addresses(db):
        if not _WORK.match(address):
            continue
        answer = client.get(address)
        if "text/html" in answer.headers.get("content-type", "") and "<html" in answer.text:
            num_looked += 1
            if len(found := primaries(answer.text)) > 1:
                many.append(f"{address}: {found}")
    assert num_looked > 40
    assert not many, "\n".join(many)


def _version(db: Session, user: User) -> DatasetVersion:
    return make_dataset_version(db, user=user, num_train=40, num_validation=8, num_test=8)


def _undecided(db: Session, user: User) -> str:
    version = make_dataset_version(db, user=user, decided=False)
    review = PrivacyReview(version_id=version.id, status=ReviewStatus.UNDECIDED)
    review.found, review.num_examples = {"name": 1}, 1
    db.add(review)
    return f"/versions/{version.id}"


def _not_searched(db: Session, user: User) -> str:
    return f"/versions/{make_dataset_version(db, user=user, decided=False).id}"


def _bad(db: Session, user: User) -> str:
    version = _version(db, user)
    report = {"num_examples": 56}
    check = DatasetCheck(version_id=version.id, status=CheckStatus.DONE, report=report)
    check.checked_at = datetime.now(UTC)
    db.add(check)
    db.flush()
    db.add(
        Finding(
            version_id=version.id,
            kind="conflict",
            severity=Severity.BAD,
            count=2,
            rows=b"",
            detail={},
        )
    )
    return f"/versions/{version.id}"


def _failed(db: Session, user: User) -> str:
    version = make_dataset_version(db, user=user)
    version.status, version.reason = VersionStatus.FAILED, "It is a picture."
    return f"/versions/{version.id}"


def _job(**columns: Any) -> Callable[[Session, User], str]:
    def make(db: Session, user: User) -> str:
        return f"/jobs/{make_job(db, user=user, **columns).id}"

    return make


def _trained(db: Session, user: User) -> str:
    return f"/jobs/{make_zipped_adapter(db, user).job_id}"


def _evaluated(where: str = "evaluations", **columns: Any) -> Callable[[Session, User], str]:
    def make(db: Session, user: User) -> str:
        evaluation = make_evaluation(db, adapter=make_adapter(db, user=user), **columns)
        adapter = evaluation.adapter
        assert adapter is not None
        numbers = {"evaluations": evaluation.id, "adapters": adapter.id, "jobs": adapter.job_id}
        return f"/{where}/{numbers[where]}"

    return make


_GOOD: dict[str, Any] = {"marks": {Arm.TUNED: "r" * 60, Arm.BASE: "w" * 60, Arm.LOOKUP: "w" * 60}}
_BAD: dict[str, Any] = {"marks": {Arm.TUNED: "w" * 24, Arm.BASE: "w" * 24}}


_OVER = {"finished_at": datetime.now(UTC)}
NEXT: list[tuple[str, Callable[[Session, User], str], str, str]] = [
    ("ready", lambda db, user: f"/versions/{_version(db, user).id}", "", "Train a model with this"),
    ("ready check", lambda db, user: f"/versions/{_version(db, user).id}", "/check", "Train a"),
    ("ready details", lambda db, user: f"/versions/{_version(db, user).id}", "/privacy", "Train a"),
    ("ready train", lambda db, user: f"/versions/{_version(db, user).id}", "/train", "Train a"),
    ("ready file", lambda db, user: f"/versions/{_version(db, user).id}", "/file", "Train a"),
    ("undecided", _undecided, "", "Review personal details"),
    ("undecided check", _undecided, "/check", "Review personal details"),
    ("undecided details", _undecided, "/privacy", "Replace all"),
    ("undecided train", _undecided, "/train", "Review personal details"),
    ("not searched", _not_searched, "", "Search for personal details"),
    ("not searched details", _not_searched, "/privacy", "Search now"),
    ("something bad", _bad, "", "See what to fix first"),
    ("something bad, check", _bad, "/check", "Fix"),
    ("a file that failed", _failed, "", "Upload another file"),
    ("a job that failed", _job(status=JobStatus.FAILED, **_OVER), "", "Try again"),
    ("a job that stands still", _job(desired=Desired.PAUSE), "", "Resume"),
    ("a trained job", _trained, "", "Ask it"),
    ("a job with a good result", _evaluated("jobs", **_GOOD), "", "Ask it"),
    ("a job with answers to check", _evaluated("jobs"), "", "Check 6 answers"),
    ("a job whose model is not to be used", _evaluated("jobs", **_BAD), "", "See what would help"),
    ("a result", _evaluated(**_GOOD), "", "Ask it something"),
    ("answers to check", _evaluated(), "", "Check 6 answers"),
    ("a bad result", _evaluated(**_BAD), "", "See what would help"),
    ("a test that failed", _evaluated(status=EvaluationStatus.FAILED), "", "Evaluate again"),
    (
        "a test that was stopped",
        _evaluated(status=EvaluationStatus.CANCELLED),
        "",
        "Evaluate again",
    ),
    ("a trained model", _evaluated("adapters", **_GOOD), "", "Ask it"),
    ("a model with answers to check", _evaluated("adapters"), "", "Check 6 answers"),
    ("a model not to be used", _evaluated("adapters", **_BAD), "", "See what would help"),
]


@pytest.mark.parametrize(
    ("make", "tab", "words"), [row[1:] for row in NEXT], ids=[row[0] for row in NEXT]
)
def test_where_something_is_next_one_button_says_it(
    client: TestClient,
    db: Session,
    broker: str,
    make: Callable[[Session, User], str],
    tab: str,
    words: str,
) -> None:
    user = make_user(db)
    make_base_model(db)
    address = make(db, user) + tab
    sign_in(client, db, user)
    (found,) = primaries(client.get(address).text)
    assert found.startswith(words)


def test_a_job_an_adapter_and_their_forms_have_one(
    client: TestClient, db: Session, broker: str
) -> None:
    user = make_user(db)
    adapter = make_zipped_adapter(db, user)
    assert adapter.job is not None
    sign_in(client, db, user)
    for address, words in (
        (f"/jobs/new?version={adapter.job.version_id}", "Start training"),
        (f"/adapters/{adapter.id}", "Ask it"),
        (f"/adapters/{adapter.id}/ask", "Ask"),
        (f"/adapters/{adapter.id}/sharing", "Release it"),
        (f"/adapters/{adapter.id}/lists", "Upload"),
    ):
        assert primaries(client.get(address).text) == [words], address


def test_who_only_reads_is_asked_for_nothing(client: TestClient, db: Session, broker: str) -> None:
    version = make_dataset_version(db)
    sign_in(client, db, make_user(db, role=Role.VIEWER))
    for tab in ("", "/check", "/privacy", "/train", "/file"):
        assert primaries(client.get(f"/versions/{version.id}{tab}").text) == [], tab
