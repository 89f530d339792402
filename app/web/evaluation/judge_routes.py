"""A larger model of the registry marks an evaluation's answers, by choice."""

from typing import Annotated

from fastapi import APIRouter, Form, Response
from fastapi.responses import RedirectResponse

from app.base_models import registry as base_models
from app.core import wakeup
from app.core.errors import Invalid
from app.evaluation import judging, reading
from app.web.dependencies import CurrentUser, Db

router = APIRouter(prefix="/evaluations")


@router.post("/{evaluation_id}/judge")
def judge(
    db: Db,
    user: CurrentUser,
    evaluation_id: int,
    base_model: Annotated[str, Form()] = "",
    which: Annotated[str, Form()] = "open",
) -> Response:
    """Have a model mark answers.

    Args:
        which: `open`, those that the rules left to people; `all`, all of them; `overrule`, all of
            them, and its marks count before those of the rules.
    """
    evaluation = reading.get(db, user, evaluation_id)
    if not (base_model.isascii() and base_model.isdecimal() and len(base_model) < 10):
        raise Invalid("Choose a model.", field="base_model")
    if which not in ("open", "all", "overrule"):
        raise Invalid("Choose which answers it judges.", field="which")
    judging.request(
        db,
        user,
        evaluation,
        base_models.get_model(db, int(base_model)),
        all_answers=which != "open",
        overrules=which == "overrule",
    )
    db.commit()
    wakeup.hint("gpu")
    return RedirectResponse(f"/evaluations/{evaluation_id}#judge", status_code=303)


@router.post("/{evaluation_id}/stop-judging")
def stop(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Stop it; what was judged by then stays."""
    judging.cancel(db, user, reading.get(db, user, evaluation_id))
    db.commit()
    return RedirectResponse(f"/evaluations/{evaluation_id}#judge", status_code=303)
