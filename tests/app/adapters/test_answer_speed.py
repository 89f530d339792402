"""How fast models answer is read off what conversations keep."""

from sqlalchemy.orm import Session

from app.adapters import answer_speed
from app.core.models import (
    BaseModel,
    Beside,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    Finish,
    JobStatus,
)
from tests.factories import make_adapter, make_base_model, make_job, make_user


def test_each_model_has_the_median_of_its_newest_answers(db: Session) -> None:
    assert answer_speed.measured(db) == []
    user = make_user(db)
    small, large = (
        make_base_model(db, name=f"house/{name}", num_parameters=number)
        for name, number in (("small", 1000), ("large", 5000))
    )
    for model, rates in ((small, (20.0, 30.0, 1000.0)), (large, (4.0,))):
        keep(db, model, user.id, rates)
    assert answer_speed.measured(db) == [(1000, 30.0), (5000, 4.0)]


def keep(db: Session, model: BaseModel, user_id: int, rates: tuple[float, ...]) -> None:
    job = make_job(db, base_model=model, status=JobStatus.SUCCEEDED)
    adapter = make_adapter(db, job=job)
    conversation = Conversation(
        owner_id=user_id, adapter_id=adapter.id, beside=Beside.BASE, instruction="", temperature=0
    )
    db.add(conversation)
    db.flush()
    turn = ConversationTurn(conversation_id=conversation.id, question="How?")
    db.add(turn)
    db.flush()
    kept: list[tuple[Finish, int | None, float | None]] = [
        (Finish.STOP, 100, 100 / rate) for rate in rates
    ]
    kept += [
        (Finish.STOP, 3, 3.0),  # so short that its question took the time
        (Finish.BROKEN_OFF, None, 9.0),
        (Finish.FAILED, None, None),
    ]
    for place, (finish, number, seconds) in enumerate(kept):
        is_base = place % 2 == 1
        db.add(
            ConversationAnswer(
                turn_id=turn.id, place=place, is_base=is_base, label="", finish=finish,
                adapter_id=None if is_base else adapter.id, num_tokens=number, seconds=seconds,
            )
        )  # fmt: skip
    db.commit()
