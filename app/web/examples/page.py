"""What the pages about examples show: the list, one of them, a finding, a comparison."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import urlencode

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, contains_eager, selectinload

from app.base_models import registry as base_models
from app.core.confined.chat import ConfinedChat
from app.core.errors import Invalid
from app.core.models import (
    Adapter,
    BaseModel,
    CheckStatus,
    Dataset,
    DatasetCheck,
    DatasetVersion,
    Example,
    ExampleKind,
    FixRun,
    FixStatus,
    Job,
    ModelStatus,
    Split,
    StoredFile,
    User,
    VersionStatus,
)
from app.core.sentences import listed
from app.datasets import browsing, changes, comparing, examples, parts, versions
from app.datasets.browsing import Matches, SortOrder, Wish
from app.datasets.changes import Change
from app.datasets.comparing import Difference
from app.datasets.doctor import checks, fixes
from app.datasets.doctor.checks import Said
from app.datasets.doctor.fixes import Changed, Fix
from app.datasets.doctor.report import Report, bars_of
from app.jobs import states
from app.training.chat import ChatError
from app.web.datasets import page as dataset_page
from app.web.datasets.page import Bar
from app.web.forms import ExampleForm
from app.web.questions import page as questions_page
from app.web.questions.page import Source

NUM_SAMPLES = 5
ORDER_WORDS = {
    SortOrder.POSITION: "as in the file",
    SortOrder.SHORTEST: "shortest first",
    SortOrder.LONGEST: "longest first",
}
_MAX_LENGTH = 131_072
_WHOLE = 2**31


# An example's marks: what the doctor found of it, and the other example that it concerns.
Marks = list[tuple[Said, int | None]]


@dataclass(frozen=True)
class ListPage:
    """examples/list.html: the examples that fit, a page at a time."""

    wish: Wish
    start: int
    found: Matches
    shown: list[tuple[Example, Marks]]
    findings: list[tuple[str, str]]
    splits: list[tuple[str, str]]
    orders: list[tuple[str, str]]
    can_sort: bool
    list_address: str
    is_filtered: bool
    looked: str  # how far a search is, where it did not reach the end
    made: str  # how this version, just made, differs from the one before
    speakers: dict[str, str]


@dataclass(frozen=True)
class LeaveOutPage:
    """examples/leave_out.html: asks once before examples are left out."""

    chosen: list[Example]
    speakers: dict[str, str]


@dataclass(frozen=True)
class ExamplePage:
    """examples/show.html: one example, to change and as a starting model sees it."""

    example: Example
    form: ExampleForm
    models: list[tuple[str, str]]
    model: BaseModel | None
    length: int
    seen: "Seen"
    found: Marks
    following: int | None
    speakers: dict[str, str]
    split_words: dict[Split, str]
    split_help: str
    row: int | None  # of the file, counted in
    row_word: str
    source: Source | None


@dataclass(frozen=True)
class FindingPage:
    """examples/finding.html: what was found of one kind, and what a fix would change."""

    said: Said
    samples: list[tuple[Example, Example | None]]
    fixes: dict[str, Fix]
    fix_name: str
    preview: list[Changed]
    speakers: dict[str, str]
    split_words: dict[Split, str]


@dataclass(frozen=True)
class ComparePage:
    """examples/compare.html: what differs from another version."""

    other: DatasetVersion
    differences: list[Difference]
    following: int | None
    speakers: dict[str, str]
    counts: list[tuple[str, int, int]]  # of each set: how many now, and before
    others: list[tuple[str, str]]
    are_related: bool


@dataclass(frozen=True)
class Fixing:
    """What a worker puts right in a version, or did; `done` says what."""

    run: FixRun | None = None
    done: str = ""


@dataclass(frozen=True)
class FixPage:
    """examples/fix.html: how far a worker is."""

    fixing: Fixing


@dataclass(frozen=True)
class DoctorCard:
    """The doctor's card on a version's page."""

    check: DatasetCheck | None
    findings: list[Said]
    verdict: str
    report: Report | None
    character_bars: list[tuple[str, list[Bar]]]  # of questions and of answers
    fixable: set[str]


@dataclass(frozen=True)
class Use:
    """A job that a version went into, and what it made."""

    job: Job
    standing: states.Standing
    adapter: Adapter | None


# --- the list ------------------------------------------------------------------------------


def wish_from(words: str, split: str, finding: str, order: str) -> Wish:
    """Read what a person wants to see; what is not understood is not wished for."""
    return Wish(
        words=words.replace("\0", "").strip()[:500],
        split=Split(split) if split in list(Split) else None,
        finding=finding[:40],
        order=SortOrder(order) if order in list(SortOrder) else SortOrder.POSITION,
    )


def list_page(
    db: Session,
    version: DatasetVersion,
    wish: Wish,
    start: int,
    made: bool,
    before: int | None = None,
) -> ListPage:
    """Return what the page with a version's examples shows, from a place on or up to one."""
    matches = (
        browsing.page(db, version, wish, start)
        if before is None
        else browsing.page_before(db, version, wish, before)
    )
    known = checks.findings(db, version)
    marked = {one.kind: browsing.marks(db, version, one.kind) for one in known}
    check = checks.of(db, version)
    return ListPage(
        wish=wish,
        start=start,
        found=matches,
        shown=[
            (
                row,
                [
                    (one, marked[one.kind].partner(row.index))
                    for one in known
                    if marked[one.kind].has(row.index)
                ],
            )
            for row in matches.examples
        ],
        findings=[(one.kind, one.title) for one in known if one.count],
        splits=[(split.value, name) for split, name in parts.names(version).items()],
        orders=[(order.value, words) for order, words in ORDER_WORDS.items()],
        can_sort=check is not None and check.status is CheckStatus.DONE,
        list_address=address(version, wish),
        is_filtered=bool(wish.words or wish.split or wish.finding),
        looked=_looked(matches),
        made=changes.described(version) if made else "",
        speakers=dataset_page.SPEAKERS,
    )


def address(version: DatasetVersion, wish: Wish) -> str:
    """Return the list's address with what is wished for, to which `&start=` may be added."""
    parts = {
        "q": wish.words,
        "split": wish.split.value if wish.split else "",
        "finding": wish.finding,
        "order": wish.order.value,
    }
    return f"/versions/{version.id}/examples?{urlencode(parts)}"


def _looked(found: Matches) -> str:
    if found.num_searched is None:
        return ""
    if found.is_back:
        return f"Searched back through {found.num_searched:,} examples so far."
    return f"Searched {found.num_searched:,} of {found.total:,} examples so far."


# --- one example ---------------------------------------------------------------------------


class Piece(NamedTuple):
    """Part of an example as the model sees it."""

    text: str
    is_trained: bool
    is_cut: bool


class Seen(NamedTuple):
    """An example as a starting model sees it."""

    pieces: list[Piece]
    num_tokens: int
    num_cut_tokens: int
    where_cut: str  # in words
    last_cut: int | None  # the place of the last piece that is cut off
    problem: str


def form_of(example: Example) -> ExampleForm:
    """Fill the form with an example as it stands."""
    return ExampleForm(
        content=[message.get("content") or "" for message in example.messages],
        rejected=[m["rejected"] for m in example.messages if isinstance(m.get("rejected"), str)],
        split=example.split.value,
    )


def change_from(example: Example, form: ExampleForm) -> Change:
    """Read the wanted change out of the form.

    Raises:
        Invalid: a text is empty, or the form is another example's; with the field it is about.
    """
    if form.split not in list(Split):
        raise Invalid("Choose one of the sets.", field="split")
    rejected = iter(form.rejected)
    if len(form.content) != len(example.messages):
        raise Invalid("This example has changed since you opened it; open it again.")
    messages = []
    for number, (message, typed) in enumerate(zip(example.messages, form.content, strict=True)):
        changed = dict(message)
        if message.get("content") is not None:
            changed["content"] = _typed(message["content"], typed)
            if not changed["content"].strip() and message["role"] != "system":
                raise Invalid(
                    "Write something here, or leave the example out.", field=f"content-{number}"
                )
        if isinstance(message.get("rejected"), str):
            changed["rejected"] = _typed(message["rejected"], next(rejected, message["rejected"]))
        messages.append(changed)
    return Change(example.index, messages, Split(form.split))


def _typed(old: str, typed: str) -> str:
    """Take a text from a browser, which ends lines its own way and drops a first empty one."""
    plain = typed.replace("\r\n", "\n").replace("\0", "")
    return old if plain.strip("\n") == old.replace("\r\n", "\n").strip("\n") else plain


def example_page(
    db: Session,
    version: DatasetVersion,
    example: Example,
    model_id: int | None,
    length: int,
    form: ExampleForm | None = None,
) -> ExamplePage:
    """Return what the page of one example shows."""
    models = [model for model in base_models.list_models(db) if model.status is ModelStatus.READY]
    model = next((each for each in models if each.id == model_id), models[0] if models else None)
    length = min(max(length, 16), _MAX_LENGTH)
    rows = examples.page(db, version, after=example.index, limit=1)
    found = []
    for one in checks.findings(db, version):
        marks = browsing.marks(db, version, one.kind)
        if marks.has(example.index):
            found.append((one, marks.partner(example.index)))
    inspection = versions.inspection_of(version)
    return ExamplePage(
        example=example,
        form=form or form_of(example),
        models=[(str(each.id), each.label) for each in models],
        model=model,
        length=length,
        seen=seen(model, example, length),
        found=found,
        following=rows[0].index if rows else None,
        speakers=dataset_page.SPEAKERS,
        split_words=parts.names(version),
        split_help=" ".join(
            f"{one.name.capitalize()}: {one.meaning}" for one in parts.sets(version)
        ),
        row=(example.flags or {}).get("row"),
        row_word=inspection.place if inspection else "row",
        source=questions_page.source_of(db, version, example),
    )


def seen(model: BaseModel | None, example: Example, length: int) -> Seen:
    """Show an example as a starting model sees it, and what a job of this length would cut off."""
    if model is None:
        return Seen([], 0, 0, "", None, "This shows what a starting model sees, once one is ready.")
    try:
        chat = ConfinedChat(base_models.folder(model), model.manifest_sha256)
        return _seen(chat, example, length)
    except ChatError as error:
        return Seen([], 0, 0, "", None, f"{model.label} cannot take this example. {error}")


def _seen(chat: ConfinedChat, example: Example, length: int) -> Seen:
    # Plain texts are cut into pieces, none of which is lost; of pairs both answers are cut alike.
    whole = length if _loses(example) else _WHOLE
    cut = chat.measure(example.messages, example.tools, whole)
    text = "".join(segment.text for segment in cut.segments)
    first, last = cut.first, cut.last
    pieces = []
    position = 0
    for segment in cut.segments:
        end = position + len(segment.text)
        edges = sorted({position, end, *(edge for edge in (first, last) if position < edge < end)})
        for start, stop in pairwise(edges):
            is_cut = stop <= first or start >= last
            pieces.append(Piece(text[start:stop], segment.is_trained, is_cut))
        position = end
    num_cut = max(cut.num_tokens - length, 0) if _loses(example) else 0
    places = ["at the beginning"] * (first > 0) + ["at the end"] * (last < len(text))
    last_cut = max((n for n, piece in enumerate(pieces) if piece.is_cut), default=None)
    return Seen(
        pieces, cut.num_tokens, num_cut, listed(places) if places else "", last_cut, problem=""
    )


def _loses(example: Example) -> bool:
    return example.kind is ExampleKind.PAIR or example.kind is ExampleKind.CHAT


# --- findings ------------------------------------------------------------------------------


def doctor_card(db: Session, version: DatasetVersion) -> DoctorCard:
    """Return what the doctor's card shows on a version's page."""
    check = checks.of(db, version)
    findings = checks.findings(db, version)
    report = checks.report_of(check)
    return DoctorCard(
        check=check,
        findings=findings,
        verdict=checks.verdict(findings) if report else "",
        report=report,
        character_bars=[
            (
                each["name"],
                [Bar(bar["from"], bar["to"], bar["count"], bar["percent"]) for bar in each["bars"]],
            )
            for each in (bars_of(report.bars) if report else [])
        ],
        fixable=set(fixes.FIXES),
    )


def fixing_of(db: Session, version: DatasetVersion) -> Fixing:
    """Return how far a worker is with putting something right in a version.

    How that ended is told until the dataset has a still newer version.
    """
    run = fixes.newest_run(db, version)
    if run is None or (
        run.status in (FixStatus.DONE, FixStatus.FAILED)
        and version.dataset.versions[-1].id not in (version.id, run.result_version_id)
    ):
        return Fixing()
    fix = fixes.FIXES.get(run.kind, {}).get(run.fix)
    return Fixing(run, fix.done if fix else "changed")


def fix_page(db: Session, version: DatasetVersion) -> FixPage:
    """Return what the part of a page shows that watches a worker."""
    return FixPage(fixing_of(db, version))


def finding_page(db: Session, version: DatasetVersion, said: Said, chosen: str) -> FindingPage:
    """Return what the page of one finding shows: five examples, and what a fix would change."""
    on_offer = fixes.FIXES.get(said.kind, {})
    name = chosen if chosen in on_offer else next(iter(on_offer), "")
    fix: Fix | None = on_offer.get(name)
    marks = browsing.marks(db, version, said.kind)
    rows = examples.at(db, version, marks.indices[:NUM_SAMPLES])
    partners = {row.index: marks.partner(row.index) for row in rows}
    others = {
        row.index: row
        for row in examples.at(db, version, (p for p in partners.values() if p is not None))
    }
    return FindingPage(
        said=said,
        samples=[(row, others.get(partners[row.index] or 0)) for row in rows]
        if marks.partners is not None
        else [(row, None) for row in rows],
        fixes=on_offer,
        fix_name=name,
        preview=fixes.preview(db, version, said.kind, fix) if fix else [],
        speakers=dataset_page.SPEAKERS,
        split_words=parts.names(version),
    )


# --- versions ------------------------------------------------------------------------------


def compare_page(
    db: Session, version: DatasetVersion, other: DatasetVersion, start: int
) -> ComparePage:
    """Return what the page shows that compares a version with an earlier one."""
    differences, following = comparing.page(db, other, version, start)
    return ComparePage(
        other=other,
        differences=differences,
        following=following,
        speakers=dataset_page.SPEAKERS,
        counts=_counts(version, other),
        others=[
            (str(each.id), f"version {each.number}")
            for each in version.dataset.versions
            if each.status is VersionStatus.READY and each.id != version.id
        ],
        are_related=bool(set(examples.layers(version)) & set(examples.layers(other))),
    )


def _counts(version: DatasetVersion, other: DatasetVersion) -> list[tuple[str, int, int]]:
    now, before = ({one.name: one.num for one in parts.sets(each)} for each in (version, other))
    longer = now if len(now) >= len(before) else before
    return [(name, now.get(name, 0), before.get(name, 0)) for name in longer]


def uses_of(db: Session, user: User, version: DatasetVersion) -> list[Use]:
    """Return which jobs a version went into, the newest first."""
    jobs = db.scalars(
        select(Job)
        .where(
            or_(Job.version_id == version.id, Job.validation_version_id == version.id),
            Job.department_id == user.department_id,
            Job.binned_at.is_(None),
        )
        .options(selectinload(Job.adapter))
        .order_by(Job.id.desc())
        .limit(50)
    ).all()
    return [Use(job, states.of(job), job.adapter) for job in jobs]


def of_same_file(db: Session, user: User, version: DatasetVersion) -> list[DatasetVersion]:
    """Return the department's other versions of the same file, the newest first."""
    found = db.scalars(
        select(DatasetVersion)
        .join(DatasetVersion.file)
        .join(DatasetVersion.dataset)
        .where(
            StoredFile.sha256 == version.file.sha256,
            Dataset.department_id == user.department_id,
            Dataset.deleted_at.is_(None),
            DatasetVersion.id != version.id,
        )
        .options(contains_eager(DatasetVersion.dataset), contains_eager(DatasetVersion.file))
        .order_by(DatasetVersion.id.desc())
        .limit(50)
    )
    return list(found)


def leave_out_page(chosen: list[Example]) -> LeaveOutPage:
    """Return what the page shows that asks once before examples are left out."""
    return LeaveOutPage(chosen, dataset_page.SPEAKERS)


def selected(db: Session, version: DatasetVersion, indices: list[str]) -> list[Example]:
    """Return the examples whose boxes were ticked.

    Raises:
        Invalid: none was.
    """
    numbers = [int(each) for each in indices if each.isdecimal() and len(each) < 10]
    ticked = examples.at(db, version, numbers)
    if not ticked:
        raise Invalid("Select at least one example first.", field="index")
    return ticked
