"""What the pages show about questions that a model makes up: asking for them, judging them."""

import re
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core import settings
from app.core.errors import AppError, Invalid
from app.core.models import (
    Asking,
    BaseModel,
    DatasetVersion,
    Example,
    ModelStatus,
    ProposedPair,
    Verdict,
)
from app.core.status_words import StatusWord
from app.datasets import examples, states, versions
from app.datasets.questions import asking, reviewing, runs
from app.web.datasets import page as dataset_page
from app.web.forms import AskingForm, SplitForm, VerdictForm
from app.web.privacy import page as privacy_page
from app.web.privacy.page import Gate
from app.web.render import parameters

LISTS = {
    Verdict.OPEN: "To review",
    Verdict.ACCEPTED: "Accepted",
    Verdict.REFUSED: "Rejected",
}
# Below so many parameters a model writes questions of which few are any good.
_SMALL_PARAMETERS = 1_000_000_000


@dataclass(frozen=True)
class Counts:
    """How many questions of a version there are, by what was said of each."""

    lists: list[tuple[str, str, int]]  # the verdict, its words, how many
    num_open: int
    num_accepted: int
    num_refused: int

    @property
    def num_all(self) -> int:
        return self.num_open + self.num_accepted + self.num_refused


@dataclass(frozen=True)
class Ended:
    """One run that is over, and why attempts were thrown away, the most frequent reason first."""

    asking: Asking
    status: StatusWord
    refused: list[tuple[int, str]]

    @property
    def num_refused(self) -> int:
        return sum(number for number, _ in self.refused)


@dataclass(frozen=True)
class AskPage:
    """questions/show.html: what was asked for, and the forms to ask for more or make a version."""

    ended: list[Ended]
    going: Asking | None
    going_status: StatusWord | None
    can_ask: bool
    models: list[tuple[str, str]]
    warning: str
    gate: Gate
    form: AskingForm
    split: SplitForm
    max_pairs: int
    max_per_passage: int
    min_examples: int
    num_texts: int
    made: list[DatasetVersion]  # of accepted questions, the newest first
    counts: Counts


@dataclass(frozen=True)
class Card:
    """One question beside its passage, as it stands or was typed."""

    pair: ProposedPair
    question: str
    answer: str
    quote: tuple[str, str, str]
    place: str


@dataclass(frozen=True)
class ReviewPage:
    """questions/review.html: a page of questions to judge."""

    cards: list[Card]
    said: str  # the verdict whose list this is
    after: str
    following: int | None
    previous: str | None
    min_examples: int
    is_going: bool
    counts: Counts


@dataclass(frozen=True)
class Summary:
    """What a version's own page says of questions: those made up to it, or its own origin."""

    counts: Counts | None  # where it is a text that can be asked about
    is_going: bool
    origin: str


@dataclass(frozen=True)
class Source:
    """Where an example came from whose question a model made up."""

    pair: ProposedPair
    quote: tuple[str, str, str]
    place: str


# --- asking --------------------------------------------------------------------------------


def is_busy(db: Session, version: DatasetVersion) -> bool:
    """Say whether questions to a version are being made up, or soon will be."""
    return any(runs.is_open(each) for each in runs.of(db, version))


def wish_from(db: Session, form: AskingForm) -> tuple[BaseModel, int, int]:
    """Read which model is to make up how many questions.

    Raises:
        Invalid: with the field it is about.
    """
    if not form.model.isdecimal() or len(form.model) > 9:
        raise Invalid("Choose a starting model.", field="model")
    model = db.get(BaseModel, int(form.model))
    if model is None:
        raise Invalid("Choose a starting model.", field="model")
    per_passage = dataset_page.whole_number(
        form.per_passage, runs.DEFAULT_PER_PASSAGE, (1, runs.MAX_PER_PASSAGE), "per_passage"
    )
    max_pairs = dataset_page.whole_number(
        form.max_pairs, runs.DEFAULT_PAIRS, (1, runs.MAX_PAIRS), "max_pairs"
    )
    return model, per_passage, max_pairs


def split_from(form: SplitForm) -> tuple[float, int]:
    """Read which share is kept for testing, and the seed of the draw.

    Raises:
        Invalid: with the field it is about.
    """
    return dataset_page.share_from(form), dataset_page.seed_from(form)


def ask_page(
    db: Session,
    version: DatasetVersion,
    form: AskingForm | None = None,
    split: SplitForm | None = None,
) -> AskPage:
    """Return what the page shows on which questions are asked for."""
    askings = runs.of(db, version)
    models = [model for model in base_models.list_models(db) if model.status is ModelStatus.READY]
    # The largest, as the most able.
    models.sort(key=lambda model: model.num_parameters or 0, reverse=True)
    form = form or AskingForm(
        model=str(models[0].id) if models else "",
        per_passage=str(runs.DEFAULT_PER_PASSAGE),
        max_pairs=str(runs.DEFAULT_PAIRS),
    )
    going = next((each for each in askings if runs.is_open(each)), None)
    return AskPage(
        ended=[_ended(each) for each in askings if each is not going],
        going=going,
        going_status=states.ASKING[going.status] if going else None,
        can_ask=runs.can_ask(db, version),
        models=[(str(model.id), _model_words(model)) for model in models],
        warning=_warning(models),
        gate=privacy_page.gate_of(db, version),
        form=form,
        split=split or SplitForm(),
        max_pairs=runs.MAX_PAIRS,
        max_per_passage=runs.MAX_PER_PASSAGE,
        min_examples=settings.get().min_examples,
        num_texts=version.num_rows,
        made=_versions_made(version),
        counts=counts_of(db, version),
    )


def _ended(each: Asking) -> Ended:
    refused = sorted(each.refused.items(), key=lambda item: -item[1])
    return Ended(
        asking=each,
        status=states.ASKING[each.status],
        refused=[(number, asking.REASONS[reason]) for reason, number in refused],
    )


def _model_words(model: BaseModel) -> str:
    if not model.num_parameters:
        return model.label
    size = parameters(model.num_parameters)
    if model.name == base_models.STARTER_NAME:
        return f"{model.label} ({size} parameters, a toy)"
    return f"{model.label} ({size} parameters)"


def _warning(models: list[BaseModel]) -> str:
    """Be honest about what the models of this site can do."""
    if not models:
        return (
            "No starting model is ready yet; an administrator can add one on the Starting models "
            "page."
        )
    if models[0].name == base_models.STARTER_NAME:
        return (
            f"The only starting model here is {models[0].label}, a toy to try Etude with. It knows "
            "only English, and not well: expect to reject or rewrite many of its questions. An "
            "administrator can add a larger model on the Starting models page."
        )
    if (models[0].num_parameters or _SMALL_PARAMETERS) < _SMALL_PARAMETERS:
        return "The starting models here are small: expect to reject or rewrite many questions."
    return ""


def _versions_made(version: DatasetVersion) -> list[DatasetVersion]:
    """Return versions of the dataset that were made of accepted pairs, the newest first."""
    return [each for each in reversed(version.dataset.versions) if reviewing.is_made_up(each)]


def counts_of(db: Session, version: DatasetVersion) -> Counts:
    """Count the questions of a version."""
    counts = reviewing.counts(db, version)
    return Counts(
        lists=[(verdict.value, words, counts[verdict]) for verdict, words in LISTS.items()],
        num_open=counts[Verdict.OPEN],
        num_accepted=counts[Verdict.ACCEPTED],
        num_refused=counts[Verdict.REFUSED],
    )


def summary(db: Session, version: DatasetVersion) -> Summary:
    """Return what a version's page says: of texts what was asked, of questions their origin."""
    can_ask = runs.can_ask(db, version)
    return Summary(
        counts=counts_of(db, version) if can_ask else None,
        is_going=can_ask and is_busy(db, version),
        origin=reviewing.origin(db, version),
    )


# --- judging -------------------------------------------------------------------------------


def verdict_from(form: VerdictForm) -> Verdict:
    """Read what a person says of a pair.

    Raises:
        Invalid: it is nothing that can be said.
    """
    if form.verdict not in list(Verdict):
        raise Invalid("Accept this question, or reject it.")
    return Verdict(form.verdict)


def review_page(db: Session, version: DatasetVersion, said: str, after: str) -> ReviewPage:
    """Return what a page of pairs shows."""
    verdict = Verdict(said) if said in list(Verdict) else Verdict.OPEN
    start = _pair_of(db, version, after)
    pairs = reviewing.page(db, version, verdict, start, reviewing.PAGE_PAIRS + 1)
    shown = pairs[: reviewing.PAGE_PAIRS]
    earlier = reviewing.before(db, version, verdict, shown[0]) if shown and start else []
    has_more_before = len(earlier) > reviewing.PAGE_PAIRS
    return ReviewPage(
        cards=_cards(db, version, shown),
        said=verdict.value,
        after=str(start.id) if start else "",
        following=shown[-1].id if len(pairs) > len(shown) else None,
        previous=(str(earlier[0].id) if has_more_before else "") if earlier else None,
        min_examples=settings.get().min_examples,
        is_going=is_busy(db, version),
        counts=counts_of(db, version),
    )


def pair_page(
    db: Session,
    version: DatasetVersion,
    pair: ProposedPair,
    form: VerdictForm | None = None,
    error: AppError | None = None,
) -> ReviewPage:
    """Return what a page of this one pair shows, as it was typed where that was wrong."""
    typed = (form.question, form.answer) if form and error else None
    return ReviewPage(
        cards=_cards(db, version, [pair], typed),
        said=pair.verdict.value,
        after=form.after if form else "",
        following=None,
        previous=None,
        min_examples=settings.get().min_examples,
        is_going=is_busy(db, version),
        counts=counts_of(db, version),
    )


def _cards(
    db: Session,
    version: DatasetVersion,
    pairs: list[ProposedPair],
    typed: tuple[str, str] | None = None,
) -> list[Card]:
    rows = {
        row.index: row for row in examples.at(db, version, {pair.example_index for pair in pairs})
    }
    cards = []
    for pair in pairs:
        question, answer = typed or (pair.question, pair.answer)
        where = place(version, rows.get(pair.example_index))
        cards.append(Card(pair, question, answer, quote(pair), where))
    return cards


def quote(pair: ProposedPair) -> tuple[str, str, str]:
    """Cut a passage into what stands before the answer, the answer, and what stands after it.

    Where a person gave another answer, nothing of it is marked.
    """
    words = pair.answer.split()
    match = re.search(r"\s+".join(map(re.escape, words)), pair.passage) if words else None
    if match is None:
        return pair.passage, "", ""
    return pair.passage[: match.start()], match[0], pair.passage[match.end() :]


def place(version: DatasetVersion, example: Example | None) -> str:
    """Say where in which document a text stands."""
    filename = version.file.filename
    inspection = versions.inspection_of(version)
    row = (example.flags or {}).get("row") if example is not None else None
    if inspection is None or row is None:
        return filename
    if len(inspection.parts) > 1:  # rows are numbered through all files of an archive
        for part in inspection.parts:
            if row <= part.num_rows:
                return f"{part.name} in {filename}"
            row -= part.num_rows
        return filename
    return f"{filename}, from {inspection.place} {row:,}"


def source_of(db: Session, version: DatasetVersion, example: Example) -> Source | None:
    """Return where an example came from whose question a model made up."""
    pair = reviewing.source_of(db, version, example)
    if pair is None:
        return None
    origin = db.get_one(DatasetVersion, pair.asking.version_id)
    row = examples.get(db, origin, pair.example_index)
    return Source(pair, quote(pair), place(origin, row))


def _pair_of(db: Session, version: DatasetVersion, typed: str) -> ProposedPair | None:
    if not typed.isdecimal() or len(typed) > 9:
        return None
    return reviewing.find(db, version, int(typed))
