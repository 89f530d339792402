"""One page to file: counts, hashes and decisions; no row of the data."""

import io

import pypdfium2
from sqlalchemy.orm import Session

from app.core.models import User
from app.evaluation import releasing, report
from tests.factories import make_evaluation


def text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(io.BytesIO(pdf))
    try:
        return "\n".join(page.get_textpage().get_text_range() for page in document)
    finally:
        document.close()


def test_the_report_says_what_has_to_be_filed(db: Session) -> None:
    made = make_evaluation(db, engine="llama.cpp")
    adapter = made.adapter
    assert adapter is not None
    owner = db.get_one(User, adapter.owner_id)
    adapter.name = "Ward #1 *bold* $x$ \\ #panic(1)"
    releasing.release(
        db,
        owner,
        adapter,
        purpose="Answers about visits.",
        limits="Never for doses.",
        reason="A trial of the team.",
        asks_per_day=5,
        keeps_questions=False,
    )
    db.commit()
    written = report.write(db, made)
    said = " ".join(f"{name} {line}" for part in written.parts for name, line in part.lines)
    for expected in (
        "Better, not ready",
        adapter.manifest_sha256,
        made.version.examples_sha256,
        "Never for doses.",
        "A trial of the team.",
        owner.email,
    ):
        assert expected is not None
        assert expected in said
    assert "wash your hands" not in said
    assert "tuned says" not in said
    shown = text_of(report.pdf(written))
    # What people wrote is shown as it is, and never obeyed.
    assert "Ward #1 *bold* $x$ \\ #panic(1)" in shown
    assert "6 of 24 answers are right" in shown
    assert "Never for doses." in shown
    assert "wash your hands" not in shown
