"""What the pages of an evaluation show: the count first, then what to look at, then all answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy.orm import Session

from app.core import settings
from app.core.errors import Invalid, NotFound
from app.core.models import (
    Adapter,
    Arm,
    Evaluation,
    EvaluationStatus,
    Finish,
    Json,
    Mark,
    Part,
    Standing,
    User,
)
from app.core.sentences import counted
from app.core.status_words import StatusWord
from app.evaluation import arms, comparing, hints, marks, reading, states, verdict, words
from app.evaluation.hints import Help, Hint
from app.evaluation.reading import Row
from app.evaluation.verdict import Tally
from app.jobs import practice
from app.people.auth import can_edit
from app.web.evaluation.judge_part import JudgePart, judge_part

_PAGE_ROWS = 25
_NUM_FIRST = 3  # of each mark to look at first
_BAR_MARKS = (Mark.RIGHT, Mark.PARTLY, Mark.UNSURE, Mark.WRONG)
_PARTS = {
    Part.TEST: "Test questions",
    Part.PRACTICE: "For comparison: questions that it practised",
    Part.UNANSWERABLE: "Questions that the data does not answer",
    Part.GENERAL: "General questions",
    Part.SITE: "General questions of your own",
}
_FILTERS = {
    "": "All",
    "right": "Right",
    "partly": "Partly right",
    "wrong": "Wrong",
    "unsure": "To check",
    "not_right": "All that are not right",
}


class Piece(NamedTuple):
    """A stretch of a bar, in thousandths of its width."""

    mark: str
    start: float
    width: float


class Bar(NamedTuple):
    """One arm's count, as a bar and in numbers; `rows` leads to its answers."""

    arm: str
    words: str
    tally: Tally
    pieces: list[Piece]
    rows: str  # an address; empty: not for this person
    is_main: bool


class Link(NamedTuple):
    words: str
    address: str
    is_here: bool = False


class Stretch(NamedTuple):
    """A piece of an answer; `is_shown`: it is why the answer got its mark."""

    text: str
    is_shown: bool


@dataclass(frozen=True)
class AnswerRow:
    """One answer as it is shown, with the form that marks it."""

    address: str
    element: str
    row: Link | None  # the example
    question: str
    said: list[Stretch]
    reference: list[Stretch]
    badge: StatusWord
    why: str
    mark: str
    by_person: bool
    judged: str  # what a larger model says of it
    note: str
    sources: list[Link]
    sources_note: str


@dataclass(frozen=True)
class Box:
    """An evaluation in a few lines, on pages of jobs and adapters and where one asks."""

    id: int
    headline: str
    sentence: str
    badge: StatusWord | None
    progress: str  # what it is doing; empty once it is over
    result: states.Result  # what a person can do about it
    problem: str

    @property
    def is_done(self) -> bool:
        return not (self.progress or self.problem)

    @property
    def to_do(self) -> states.Step | None:
        """What a person is to do before it is used."""
        is_open = self.result.state in (states.State.TO_CHECK, states.State.NOT_FOR_USE)
        return self.result.step if is_open else None


class HintView(NamedTuple):
    """What would help, and the button that does it."""

    sentence: str
    button: Link | None
    is_post: bool = False  # it does something at once


class Losses(NamedTuple):
    """An adapter's loss before and after training, and the same as perplexity."""

    before: float
    after: float
    perplexities: tuple[float, float] | None  # none: of pairs of answers it says nothing


@dataclass(frozen=True)
class EvaluationPage:
    evaluation: Evaluation
    adapter: Adapter | None
    headline: str
    lead: str
    badge: StatusWord
    result: states.Result  # what a person can do about it
    is_live: bool
    progress: str
    share: float | None  # how far it is, from 0 to 1
    about: str  # which questions, and how many
    bars: list[Bar]
    practised: Bar | None
    ours: list[Link]  # how it did beside the data, in sentences; where to read the answers
    makes_up: int | None  # the version whose next one can learn to say “I don't know”
    certainty: str
    by_people: str
    looked_up: str
    judge: JudgePart | None
    first: list[AnswerRow]
    links: list[Link]
    hints: list[HintView]
    untrained: words.Untrained | None  # what a check without training found
    chose_checkpoint: bool
    losses: Losses | None
    earlier: str  # the adapter before it, to compare it with; empty: there is none
    can_mark: bool
    may_read: bool
    crumbs: list[Link]


@dataclass(frozen=True)
class AnswersPage:
    evaluation: Evaluation
    title: str
    arms: list[Link]
    filters: list[Link]
    rows: list[AnswerRow]
    total: int
    older: str  # the next page's address
    can_mark: bool
    crumbs: list[Link]


def evaluation_page(db: Session, user: User, evaluation: Evaluation) -> EvaluationPage:
    """Gather what the page of one evaluation shows."""
    figures = verdict.figures_of(evaluation)
    untrained = _untrained(evaluation, figures)
    # Without training the page is about whichever of the two does better.
    main = untrained.arm if untrained else verdict.main_arm(evaluation)
    may_read = reading.may_read_rows(db, user, evaluation)
    is_done = evaluation.status is EvaluationStatus.DONE
    first = _first(db, evaluation, main) if may_read and is_done else []
    tally = figures.arms.get(main, Tally())
    adapter = evaluation.adapter
    before = comparing.earlier(db, evaluation) if may_read and is_done else None
    return EvaluationPage(
        evaluation=evaluation,
        adapter=adapter,
        headline=_headline(evaluation, figures),
        lead=_lead(evaluation, figures),
        badge=_badge(evaluation, main),
        result=states.of(evaluation, main),
        is_live=not is_done and evaluation.status in _GOING_ON,
        progress=_progress(evaluation),
        share=_share(evaluation),
        about=_about(evaluation, tally),
        bars=[
            bar_of(evaluation, arm, figures.arms[arm], is_main=arm is main, may_read=may_read)
            for arm in words.ARMS
            if arm in figures.arms
        ],
        practised=_practised(evaluation, figures, may_read),
        ours=[
            Link(
                said, f"/evaluations/{evaluation.id}/answers?part={part.value}" if may_read else ""
            )
            for part, said in words.ours(figures).items()
        ],
        makes_up=evaluation.practice_version_id
        if figures.unanswerable is not None and figures.unanswerable.wrong
        else None,
        certainty=words.certainty(figures, main),
        by_people=counted(
            figures.num_by_people,
            "A person gave or changed 1 of these marks.",
            "People gave or changed {n} of these marks.",
        )
        if figures.num_by_people
        else "",
        looked_up=words.looked_up(figures),
        judge=judge_part(db, evaluation) if may_read else None,
        first=first,
        links=_links(evaluation, main, tally) if may_read and is_done else [],
        hints=[_hint(evaluation, one) for one in hints.of(db, evaluation)]
        if may_read and is_done and not (untrained and untrained.is_enough)
        else [],
        untrained=untrained,
        chose_checkpoint=_chose_checkpoint(evaluation),
        losses=_losses(adapter),
        earlier=before.name if before is not None else "",
        can_mark=can_edit(user) and may_read,
        may_read=may_read,
        crumbs=_crumbs(evaluation),
    )


def answers_page(
    db: Session, user: User, evaluation: Evaluation, *, arm: str, mark: str, part: str, after: int
) -> AnswersPage:
    """Gather one page of answers.

    Raises:
        NotFound: the person may not read the data, or there is no such arm, mark or part.
    """
    if not reading.may_read_rows(db, user, evaluation):
        raise NotFound("These answers are for those who may read the data.")
    main = verdict.main_arm(evaluation)
    try:
        of_arm, of_part = Arm(arm) if arm else main, Part(part) if part else Part.TEST
    except ValueError:
        raise NotFound("There are no such answers.") from None
    marks = marks_of(mark)
    answering = arms.of(of_part, [Arm(name) for name in evaluation.arms])
    found = reading.rows(
        db, evaluation, of_arm, part=of_part, marks=marks, after=after, limit=_PAGE_ROWS + 1
    )
    shown = found[:_PAGE_ROWS]

    def address(an_arm: Arm, a_mark: str, behind: int | None = None) -> str:
        query = f"arm={an_arm.value}&mark={a_mark}&part={of_part.value}"
        return f"/evaluations/{evaluation.id}/answers?{query}" + (
            f"&after={behind}" if behind is not None else ""
        )

    return AnswersPage(
        evaluation=evaluation,
        title=f"{_PARTS[of_part]}: {words.arm_name(evaluation, of_arm).lower()}",
        arms=[
            Link(words.arm_name(evaluation, each), address(each, mark), each is of_arm)
            for each in words.ARMS
            if each in answering
        ],
        filters=[
            Link(said, address(of_arm, name), name == mark) for name, said in _FILTERS.items()
        ],
        rows=[row_view(evaluation, row) for row in shown],
        total=reading.num_rows(db, evaluation, of_arm, of_part, marks),
        older=address(of_arm, mark, shown[-1].answer.position) if len(found) > len(shown) else "",
        can_mark=can_edit(user),
        crumbs=[*_crumbs(evaluation)[:-1], Link("Result", f"/evaluations/{evaluation.id}")],
    )


def marks_of(name: str) -> tuple[Mark, ...]:
    """Return the marks that a filter lets through; none: all of them.

    Raises:
        NotFound: there is no such filter.
    """
    if name not in _FILTERS:
        raise NotFound("There are no such answers.")
    if name == "not_right":
        return (Mark.PARTLY, Mark.WRONG, Mark.UNSURE)
    return (Mark(name),) if name else ()


def arm_from(name: str) -> Arm:
    """Read an arm's name.

    Raises:
        Invalid: there is none of that name.
    """
    try:
        return Arm(name)
    except ValueError:
        raise Invalid("There is nobody of that name who answers.", field="arm") from None


def row_view(evaluation: Evaluation, row: Row) -> AnswerRow:
    """Return an answer as it is shown."""
    answer = row.answer
    is_cut = answer.finish is Finish.LENGTH
    said, reference = _shown(row)
    return AnswerRow(
        address=f"/evaluations/{evaluation.id}/answers/{answer.position}/{answer.arm.value}",
        element=f"answer-{answer.position}-{answer.arm.value}",
        row=_row_link(evaluation, row),
        question=row.asked.question,
        said=said,
        reference=reference,
        badge=words.MARKS[row.mark],
        why=_why(row),
        mark=row.mark.value,
        by_person=answer.person_mark is not None,
        judged=_judged(row),
        note="The answer was cut off at its limit." if is_cut else "",
        sources=_sources(evaluation, answer.sources or []),
        sources_note=" ".join(one["note"] for one in answer.sources or [] if "note" in one),
    )


def _why(row: Row) -> str:
    answer = row.answer
    if answer.person_mark is not None:
        return "marked by a person"
    return "marked by another model" if answer.judge_counts else answer.why


def _judged(row: Row) -> str:
    """Say what a judge said where it is not the mark that is shown already."""
    answer = row.answer
    if answer.judge_mark is None or (answer.judge_counts and answer.person_mark is None):
        return ""
    if answer.judge_mark is Mark.UNSURE:
        return "What the other model said of it could not be read as a mark."
    return f"The other model says: {words.MARKS[answer.judge_mark].word.lower()}."


def box(evaluation: Evaluation | None, arm: Arm | None = None) -> Box | None:
    """Return what an evaluation says of an arm in a few lines; nothing where there is none."""
    if evaluation is None:
        return None
    figures = verdict.figures_of(evaluation)
    is_done = evaluation.status is EvaluationStatus.DONE
    return Box(
        id=evaluation.id,
        headline=words.headline(evaluation, figures, arm) if is_done else "",
        sentence=words.summary(evaluation, figures, arm) if is_done else "",
        badge=_badge(evaluation, arm),
        progress=_progress(evaluation),
        result=states.of(evaluation, arm),
        problem=_problem(evaluation),
    )


def standing(
    evaluation: Evaluation | None, arm: Arm | None = None
) -> tuple[StatusWord | None, str]:
    """Return the verdict's badge and the count, for pages that show no more than that."""
    if evaluation is None or evaluation.status is not EvaluationStatus.DONE:
        return StatusWord("Not counted yet", "wait"), "Nobody has counted its right answers yet."
    tally = verdict.figures_of(evaluation).arms.get(arm or verdict.main_arm(evaluation))
    counted_so = f"{words.count(tally)}." if tally and tally.num else ""
    return _badge(evaluation, arm), counted_so


_GOING_ON = (EvaluationStatus.WAITING, EvaluationStatus.EVALUATING)


def _losses(adapter: Adapter | None) -> Losses | None:
    if adapter is None or not adapter.metrics:
        return None
    before, after = (adapter.metrics[f"validation_loss_{name}"] for name in ("before", "after"))
    if adapter.metrics.get("preferred_share") is not None:
        return Losses(before, after, None)
    # The exponential of nats a token; a loss of hundreds has none that can be written.
    perplexities = tuple(math.exp(min(loss, 50.0)) for loss in (before, after))
    return Losses(before, after, (perplexities[0], perplexities[1]))


def _chose_checkpoint(evaluation: Evaluation) -> bool:
    """Say whether the questions chose which step was kept: so in versions of two parts."""
    job = evaluation.adapter.job if evaluation.adapter is not None else None
    if job is None or evaluation.version_id != (job.validation_version_id or job.version_id):
        return False
    return practice.chosen_by(job) == "test"


def _first(db: Session, evaluation: Evaluation, main: Arm) -> list[AnswerRow]:
    found = reading.first_of_each(db, evaluation, main, (Mark.WRONG, Mark.UNSURE), _NUM_FIRST)
    return [row_view(evaluation, row) for row in found]


def _untrained(evaluation: Evaluation, figures: verdict.Figures) -> words.Untrained | None:
    if evaluation.adapter_id is not None or evaluation.status is not EvaluationStatus.DONE:
        return None
    return words.untrained(figures)


def _headline(evaluation: Evaluation, figures: verdict.Figures) -> str:
    if evaluation.status is not EvaluationStatus.DONE:
        return "How good is it?" if evaluation.adapter_id else "Is training needed?"
    untrained = _untrained(evaluation, figures)
    return untrained.headline if untrained else words.headline(evaluation, figures)


def _lead(evaluation: Evaluation, figures: verdict.Figures) -> str:
    if untrained := _untrained(evaluation, figures):
        return untrained.lead
    if evaluation.status is EvaluationStatus.DONE:
        stands = words.standing(evaluation)
        said = [stands.sentence] if stands else []
        return " ".join([*said, *filter(None, [words.errors(figures), _open(evaluation, figures)])])
    return _problem(evaluation) or (
        "The test questions are being answered and marked. You can close this page."
    )


def _problem(evaluation: Evaluation) -> str:
    if evaluation.status is EvaluationStatus.FAILED:
        return evaluation.reason or "This evaluation failed."
    if evaluation.status is EvaluationStatus.CANCELLED:
        return "This evaluation was cancelled."
    return ""


def _open(evaluation: Evaluation, figures: verdict.Figures) -> str:
    """Say that answers which nobody has checked yet may change a verdict that is not good."""
    tally = figures.arms.get(verdict.main_arm(evaluation), Tally())
    if not tally.unsure or evaluation.standing in (Standing.READY_FOR_TRIAL, Standing.TOO_FEW):
        return ""
    return counted(
        tally.unsure,
        "1 of {all} answers is for you to check and counts as wrong until you do, so this may "
        "change.",
        "{n} of {all} answers are for you to check and count as wrong until you do, so this may "
        "change.",
        all=tally.num,
    )


def _badge(evaluation: Evaluation, arm: Arm | None = None) -> StatusWord:
    said = words.standing(evaluation, arm)
    if evaluation.status is EvaluationStatus.DONE and said is not None:
        return StatusWord(said.word, said.dot)
    return words.STATUSES[evaluation.status]


def _progress(evaluation: Evaluation) -> str:
    if evaluation.status is EvaluationStatus.WAITING:
        return "It waits until a machine is free."
    if evaluation.status is not EvaluationStatus.EVALUATING:
        return ""
    if not evaluation.num_questions:
        return "The questions are being drawn."
    done = f"{evaluation.num_answered:,} of {evaluation.num_questions:,} questions are answered"
    num_tests = min(evaluation.num_rows, settings.get().evaluation_questions)
    if evaluation.num_questions == num_tests:
        return f"{done}."
    return f"{done}: {num_tests:,} test questions, and others to compare with."


def _share(evaluation: Evaluation) -> float | None:
    if evaluation.status is EvaluationStatus.EVALUATING and evaluation.num_questions:
        return evaluation.num_answered / evaluation.num_questions
    return None


def _about(evaluation: Evaluation, tally: Tally) -> str:
    asked = counted(tally.num, "1 question", "{n} questions")
    whole = evaluation.num_rows
    of = f" of {whole:,}, drawn by chance" if whole > tally.num else ""
    never = " it never saw" if evaluation.adapter_id is not None else ""
    return f"{asked}{of}{never} · answered once"


def bar_of(
    evaluation: Evaluation,
    arm: Arm,
    tally: Tally,
    *,
    is_main: bool = False,
    may_read: bool = True,
    part: Part = Part.TEST,
) -> Bar:
    """Return one arm's count as a bar."""
    pieces, start = [], 0.0
    for mark in _BAR_MARKS:
        width = 1000 * getattr(tally, mark.value) / max(1, tally.num)
        if width:
            pieces.append(Piece(mark.value, round(start, 2), round(width, 2)))
        start += width
    rows = f"/evaluations/{evaluation.id}/answers?arm={arm.value}&part={part.value}"
    said = words.arm_name(evaluation, arm) if part is Part.TEST else _PARTS[part]
    return Bar(arm.value, said, tally, pieces, rows if may_read else "", is_main)


def _practised(evaluation: Evaluation, figures: verdict.Figures, may_read: bool) -> Bar | None:
    if figures.practice is None or not figures.practice.num:
        return None
    return bar_of(
        evaluation,
        verdict.main_arm(evaluation),
        figures.practice,
        may_read=may_read,
        part=Part.PRACTICE,
    )


def _links(evaluation: Evaluation, main: Arm, tally: Tally) -> list[Link]:
    address = f"/evaluations/{evaluation.id}/answers?arm={main.value}&mark="
    links = [Link(f"Show all {tally.num}", address)]
    if tally.wrong:
        links.append(Link(f"Only wrong ({tally.wrong})", address + "wrong"))
    if tally.unsure:
        links.append(Link(f"To check ({tally.unsure})", address + "unsure"))
    return links


def _hint(evaluation: Evaluation, hint: Hint) -> HintView:
    version, job = hint.version_id, evaluation.adapter.job if evaluation.adapter else None
    add = f"/versions/{version}/add?evaluation={evaluation.id}"
    button: Link | None
    match hint.kind:
        case Help.CONFLICTS:
            button = Link("Put it right", f"/versions/{version}/findings/conflict")
        case Help.LONGER:
            copied = f"/jobs/new?copy_of={job.id}" if job else f"/jobs/new?version={version}"
            button = Link("Train longer", copied)
        case Help.LARGER:
            assert hint.base_model is not None
            address = f"/jobs/new?version={version}&base_model={hint.base_model.id}"
            button = Link("Train that one", address)
        case Help.TOPIC:
            button = Link(f"Add examples about “{hint.about}”", f"{add}&about={quote(hint.about)}")
        case Help.UNSEEN | Help.ERRORS:
            button = Link("Add examples like these", add)
        case Help.LOOKING_UP:
            address = f"/evaluations/{evaluation.id}/look-up"
            return HintView(hint.sentence, Link("Look up instead", address), is_post=True)
        case _:
            button = None
    return HintView(hint.sentence, button)


def _shown(row: Row) -> tuple[list[Stretch], list[Stretch]]:
    """Cut an answer and its reference where the rules say why they differ."""
    said, right = row.answer.text, row.asked.answer
    by_rules = row.mark is row.answer.mark and row.mark in (Mark.WRONG, Mark.PARTLY)
    # Where the data answers with a call, the spans are of the call and not of what is shown.
    if not by_rules or right != row.asked.reference.get("content"):
        return stretches(said, ()), stretches(right, ())
    marked = marks.mark(row.asked.question, right, said)
    return stretches(said, marked.in_answer), stretches(right, marked.in_reference)


def stretches(text: str, shown: Sequence[tuple[int, int]]) -> list[Stretch]:
    """Cut a text at spans, which may overlap or reach beyond it."""
    found, end = [], 0
    for first, last in sorted(shown):
        begin, until = max(first, end), min(last, len(text))
        if begin >= until:
            continue
        if begin > end:
            found.append(Stretch(text[end:begin], False))
        found.append(Stretch(text[begin:until], True))
        end = until
    if end < len(text):
        found.append(Stretch(text[end:], False))
    return found


def _row_link(evaluation: Evaluation, row: Row) -> Link | None:
    version = reading.version_of(evaluation, row.question)
    return _example(version.id, row.question.index) if row.question.index is not None else None


def _sources(evaluation: Evaluation, sources: list[Json]) -> list[Link]:
    version_id = evaluation.practice_version_id
    if version_id is None:
        return []
    return [_example(version_id, one["index"]) for one in sources if "index" in one]


def _example(version_id: int, index: int) -> Link:
    return Link(f"example {index + 1:,}", f"/versions/{version_id}/examples/{index}")


def _crumbs(evaluation: Evaluation) -> list[Link]:
    adapter = evaluation.adapter
    if adapter is not None:
        return [
            Link("Trained models", "/adapters"),
            Link(adapter.name, f"/adapters/{adapter.id}"),
            Link("Result", ""),
        ]
    version = evaluation.version
    return [
        Link("Data", "/datasets"),
        Link(version.dataset.name, f"/versions/{version.id}"),
        Link("Check without training", ""),
    ]
