"""How fast models have answered here, of what conversations keep."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from app.core.db import read_once
from app.core.models import (
    Adapter,
    BaseModel,
    Conversation,
    ConversationAnswer,
    ConversationTurn,
    Finish,
)

_NUM_NEWEST = 300
# A shorter answer's time is that of its question.
_MIN_TOKENS = 16


@read_once
def measured(db: Session) -> list[tuple[int, float]]:
    """Return how fast starting models answer, whoever asked: (parameters, tokens a second) each.

    The newest answers count, of each model the median, with a trained model's as its starting
    model's.
    """
    newest = (
        select(ConversationAnswer)
        .where(
            ConversationAnswer.finish.in_((Finish.STOP, Finish.LENGTH)),
            ConversationAnswer.num_tokens >= _MIN_TOKENS,
            ConversationAnswer.seconds > 0,
        )
        .order_by(ConversationAnswer.id.desc())
        .limit(_NUM_NEWEST)
        .subquery()
    )
    answered = func.coalesce(newest.c.adapter_id, case((newest.c.is_base, Conversation.adapter_id)))
    rate = newest.c.num_tokens / newest.c.seconds
    rows = db.execute(
        select(BaseModel.num_parameters, func.percentile_cont(0.5).within_group(rate))
        .select_from(newest)
        .join(ConversationTurn, ConversationTurn.id == newest.c.turn_id)
        .join(Conversation, Conversation.id == ConversationTurn.conversation_id)
        .join(Adapter, Adapter.id == answered)
        .join(BaseModel, BaseModel.id == Adapter.base_model_id)
        .where(BaseModel.num_parameters > 0)
        .group_by(BaseModel.id, BaseModel.num_parameters)
        .order_by(BaseModel.id)
    )
    return [(parameters, found) for parameters, found in rows]
