"""Evaluations: how many answers are right, each beside the right one, and marks by people."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from app.adapters import registry as adapters
from app.base_models import registry as base_models
from app.core import audit, wakeup
from app.core.errors import Conflict
from app.core.models import AdapterKind, Evaluation, EvaluationStatus, Part
from app.datasets import examples, versions
from app.evaluation import dont_know, evaluations, lookups, marking, reading, report
from app.evaluation.report import Report
from app.people.auth import can_edit
from app.web import stepper
from app.web.dependencies import CurrentUser, Db
from app.web.evaluation import page as evaluation_pages
from app.web.render import fragment, page

router = APIRouter(prefix="/evaluations")
start_router = APIRouter()


@start_router.post("/adapters/{adapter_id}/evaluate")
def evaluate(
    db: Db,
    user: CurrentUser,
    adapter_id: int,
    also: Annotated[list[str] | None, Form()] = None,
    lookup: Annotated[str, Form()] = "",
) -> Response:
    """Have an adapter's answers counted now.

    Args:
        also: What else is asked, by the names of app.core.models.Part.
        lookup: Not empty: it is asked with rows of the data in its prompt, too.
    """
    made = evaluations.request(
        db,
        user,
        adapters.get(db, user, adapter_id),
        with_tuned_lookup=bool(lookup),
        also_asks=[part for part in Part if part in (also or [])],
    )
    return _begun(db, made)


@start_router.post("/adapters/{adapter_id}/look-up")
def look_in(
    db: Db, user: CurrentUser, adapter_id: int, where: Annotated[str, Form()] = ""
) -> Response:
    """Let an adapter look answers up in its own data, in a newer version of it, or no more."""
    adapter = adapters.get(db, user, adapter_id)
    chosen = {
        "own": adapter.job.version if adapter.job else None,
        "newer": lookups.newer_version(db, adapter),
    }.get(where)
    if chosen is None and where != "nowhere":
        raise Conflict("There is no such data to look in any more; reload the page.")
    lookups.look_in(db, user, adapter, chosen)
    db.commit()
    return RedirectResponse(f"/adapters/{adapter_id}#looking-up", status_code=303)


@start_router.post("/versions/{version_id}/add-dont-know")
def add_dont_know(db: Db, user: CurrentUser, version_id: int) -> Response:
    """Add examples that say “I don't know”, in a new version."""
    made = dont_know.add(db, user, versions.get_version(db, user, version_id))
    last = examples.end(db, made) - 1
    db.commit()
    wakeup.hint("cpu")  # the doctor looks at the new version
    return RedirectResponse(f"/versions/{made.id}/examples?start={last}&made=1", status_code=303)


@start_router.post("/versions/{version_id}/check-without-training")
def check_without_training(
    db: Db, user: CurrentUser, version_id: int, base_model: Annotated[str, Form()] = ""
) -> Response:
    """Have a starting model and looking up answer a version's test questions."""
    version = versions.get_version(db, user, version_id)
    model = base_models.get_chosen(db, base_model)
    return _begun(db, evaluations.request_untrained(db, user, version, model))


@router.get("/{evaluation_id}")
def show(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Show the count, what it means and what to look at first."""
    evaluation = reading.get(db, user, evaluation_id)
    shown = evaluation_pages.evaluation_page(db, user, evaluation)
    return page(
        "evaluation/show.html", user, page=shown, stepper=stepper.of_evaluation(db, evaluation)
    )


@router.get("/{evaluation_id}/answers")
def answers(
    db: Db,
    user: CurrentUser,
    evaluation_id: int,
    arm: str = "",
    mark: str = "",
    part: str = "",
    after: int = reading.BEFORE_ALL,
) -> Response:
    """Show the answers of one arm, each beside the right one."""
    evaluation = reading.get(db, user, evaluation_id)
    shown = evaluation_pages.answers_page(
        db, user, evaluation, arm=arm, mark=mark, part=part, after=after
    )
    return page(
        "evaluation/answers.html", user, page=shown, stepper=stepper.of_evaluation(db, evaluation)
    )


@router.post("/{evaluation_id}/look-up")
def look_up(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Let the starting model answer with rows of the data from now on, as was tried here."""
    made = lookups.use_counted(db, user, reading.get(db, user, evaluation_id))
    address = f"/adapters/{made.id}"
    db.commit()
    return RedirectResponse(address, status_code=303)


@router.post("/{evaluation_id}/use-alone")
def use_alone(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Let the starting model answer by itself from now on, as was tried here."""
    evaluation = reading.get(db, user, evaluation_id)
    made = lookups.use_counted(db, user, evaluation, AdapterKind.ALONE)
    address = f"/adapters/{made.id}"
    db.commit()
    return RedirectResponse(address, status_code=303)


@router.get("/{evaluation_id}/report")
def show_report(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Show the page to file."""
    evaluation = reading.get(db, user, evaluation_id)
    return page(
        "evaluation/report.html",
        user,
        evaluation_id=evaluation_id,
        report=_report(db, evaluation),
        stepper=stepper.of_evaluation(db, evaluation),
    )


@router.get("/{evaluation_id}/report.pdf")
def download_report(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Hand over the page to file as PDF."""
    written = report.pdf(_report(db, reading.get(db, user, evaluation_id)))
    audit.record(db, user, "evaluation.report", f"evaluation {evaluation_id}")
    db.commit()
    return Response(
        written,
        media_type="application/pdf",
        headers={
            "Content-Disposition": f'attachment; filename="report-{evaluation_id}.pdf"',
            "Cache-Control": "private, no-store",
        },
    )


@router.post("/{evaluation_id}/cancel")
def cancel(db: Db, user: CurrentUser, evaluation_id: int) -> Response:
    """Stop an evaluation; what was answered so far can be read."""
    evaluations.cancel(db, user, reading.get(db, user, evaluation_id))
    db.commit()
    return RedirectResponse(f"/evaluations/{evaluation_id}", status_code=303)


@router.post("/{evaluation_id}/answers/{position}/{arm}")
def mark_answer(
    request: Request,
    db: Db,
    user: CurrentUser,
    evaluation_id: int,
    position: int,
    arm: str,
    mark: Annotated[str, Form()] = "",
) -> Response:
    """Say whether an answer is right; the count follows."""
    evaluation = reading.get(db, user, evaluation_id)
    of_arm = evaluation_pages.arm_from(arm)
    row = marking.set_mark(db, user, evaluation, position, of_arm, mark)
    db.commit()
    if request.headers.get("HX-Request"):
        view = evaluation_pages.row_view(evaluation, row)
        return fragment("evaluation/answer.html", "answer", user, row=view, can_mark=can_edit(user))
    return RedirectResponse(f"/evaluations/{evaluation_id}#answers", status_code=303)


def _begun(db: Session, evaluation: Evaluation) -> Response:
    evaluation_id = evaluation.id
    db.commit()
    wakeup.hint("gpu")
    return RedirectResponse(f"/evaluations/{evaluation_id}", status_code=303)


def _report(db: Session, evaluation: Evaluation) -> Report:
    if evaluation.status is not EvaluationStatus.DONE:
        raise Conflict("There is a report once all answers are counted.")
    return report.write(db, evaluation)
