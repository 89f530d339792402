"""Examples that say “I don't know”: questions that the data cannot answer, for the next version.

Half of ours are asked in evaluations, the other half is practised: what was practised tests
nothing.
"""

from sqlalchemy.orm import Session

from app.core.models import DatasetVersion, User
from app.datasets import adding, examples
from app.evaluation import languages, own_questions
from app.evaluation.arms import last_turn, question_of
from app.evaluation.own_questions import Unanswerable

_NUM_READ = 20


def asked(language: str) -> list[Unanswerable]:
    """Return the questions that an evaluation asks."""
    return own_questions.unanswerable(language)[::2]


def practised(language: str) -> list[Unanswerable]:
    """Return the questions that may be practised."""
    return own_questions.unanswerable(language)[1::2]


def add(db: Session, user: User, version: DatasetVersion) -> DatasetVersion:
    """Make the next version, which practises to say that one does not know.

    Raises:
        Forbidden, Conflict, Invalid: as app.datasets.adding.add.
    """
    language = language_of(db, version)
    answers = own_questions.dont_know(language)
    rows = [
        (one.question, answers[number % len(answers)])
        for number, one in enumerate(practised(language))
    ]
    return adding.add(db, user, version, rows)


def language_of(db: Session, version: DatasetVersion) -> str:
    """Return the language of a version's questions, as its first ones have it."""
    said = " ".join(
        question_of(turn.before)
        for example in examples.page(db, version, limit=_NUM_READ)
        if (turn := last_turn(example.messages)) is not None
    )
    return languages.of(said)
