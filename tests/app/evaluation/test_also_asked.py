"""Questions of ours beside those of the data: does it make something up, has it forgotten?"""

from sqlalchemy.orm import Session

from app.core import leases
from app.core.leases import Lease
from app.core.models import Arm, Evaluation, Finish, Mark, Part, Split, User
from app.datasets import examples
from app.evaluation import dont_know, evaluations, languages, reading, verdict, words
from app.evaluation.evaluations import Kept
from tests.factories import make_adapter, make_user


def begun(db: Session) -> tuple[Evaluation, Lease]:
    adapter = make_adapter(db)
    owner = db.get_one(User, adapter.owner_id)
    asked = [Part.GENERAL, Part.UNANSWERABLE]
    made = evaluations.request(db, owner, adapter, also_asks=asked)
    db.commit()
    lease = leases.claim(db, leases.EVALUATIONS, "gpu-0@here")
    assert lease is not None
    evaluations.draw(db, lease)
    db.commit()
    return made, lease


def test_ours_are_asked_first_and_counted_apart(db: Session) -> None:
    made, lease = begun(db)
    seen: list[Part] = []
    while block := evaluations.next_questions(db, lease):
        seen += [one.part for one in block]
        kept = [
            Kept(
                one.position,
                arm,
                "Yes.",
                Finish.STOP,
                None,
                Mark.WRONG if one.part is Part.UNANSWERABLE else Mark.RIGHT,
                "",
                None,
            )
            for one in block
            for arm in one.arms
        ]
        num_test = sum(one.part is Part.TEST for one in block)
        evaluations.keep(db, lease, kept, num_test, 1.0, {})
    evaluations.finish(db, lease)
    db.commit()
    num_ours = 24 + len(dont_know.asked("en"))
    assert set(seen[:num_ours]) == {Part.GENERAL, Part.UNANSWERABLE}
    assert not set(seen[num_ours:]) & {Part.GENERAL, Part.UNANSWERABLE}
    figures = verdict.figures_of(made)
    assert figures.unanswerable is not None
    assert figures.unanswerable.wrong == len(dont_know.asked("en"))
    assert figures.general[Arm.TUNED].right == figures.general[Arm.BASE].right == 24
    assert figures.arms[Arm.TUNED].num == made.num_answered == 4
    assert "it made something up" in words.ours(figures)[Part.UNANSWERABLE]
    rows = reading.rows(db, made, Arm.TUNED, part=Part.GENERAL, limit=100)
    assert len(rows) == 24
    assert all(row.asked.question and row.asked.answer for row in rows)


def test_what_is_practised_is_never_asked(db: Session) -> None:
    for language in ("en", "de", "fr", "es", "nl"):
        asked = {one.question for one in dont_know.asked(language)}
        practised = {one.question for one in dont_know.practised(language)}
        assert len(asked) == len(practised) == 10
        assert not asked & practised


def test_examples_that_say_it_does_not_know(db: Session) -> None:
    adapter = make_adapter(db)
    assert adapter.job is not None
    made = dont_know.add(db, make_user(db), adapter.job.version)
    db.commit()
    added = examples.page(db, made, Split.TRAIN, offset=20, limit=50)
    assert [row.messages[0]["content"] for row in added] == [
        one.question for one in dont_know.practised("en")
    ]


def test_the_language_of_a_text() -> None:
    assert languages.of("Wo kann ich mein Auto abstellen und was kostet es?") == "de"
    assert languages.of("Où est-ce que je peux laisser la voiture ?") == "fr"
    assert languages.of("¿Dónde puedo dejar el coche y cuánto cuesta?") == "es"
    assert languages.of("Waar kan ik mijn auto neerzetten en wat kost het?") == "nl"
    assert languages.of("Where can I leave my car?") == "en"
    assert languages.of("42 + 7") == "en"
