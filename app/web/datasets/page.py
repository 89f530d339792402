"""What a version's page shows: the columns to confirm, its examples, their lengths.

Queries and sums stay here; templates/datasets only places them.
"""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, cast, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.confined.chat import ConfinedChat
from app.core.errors import AppError, Invalid, Problems
from app.core.kinds import ExampleKind
from app.core.models import (
    BaseModel,
    Dataset,
    DatasetVersion,
    Example,
    ModelStatus,
    Split,
    VersionStatus,
)
from app.datasets import changes, examples, fits, lengths, parts, states, versions
from app.datasets import mapping as mappings
from app.datasets.conversations import assemble
from app.datasets.mapping import ColumnRole, Mapping, Separators
from app.datasets.readers import encodings, inspections, separators
from app.datasets.readers.chats import (
    DEFAULT_PAUSE_MINUTES,
    MAX_PAUSE_MINUTES,
    MIN_PAUSE_MINUTES,
)
from app.datasets.readers.documents import (
    DEFAULT_CHUNK_TOKENS,
    MAX_CHUNK_TOKENS,
    MIN_CHUNK_TOKENS,
)
from app.datasets.readers.headers import MAX_HEADER_ROW
from app.datasets.readers.inspections import ALL_SHEETS, FileChoices, Inspection, ReadAs
from app.datasets.states import Standing
from app.datasets.turns import TurnRole, plain_word
from app.training.chat import ChatError, Segment, is_pair
from app.training.chat import worse as worse_of
from app.training.config import PRESETS
from app.training.plan.shape import LengthHistogram
from app.training.plan.shape import context_tokens as context_of
from app.web.forms import MappingForm, ReadAsForm, SplitForm
from app.web.render import visible

NUM_PREVIEW_CONVERSATIONS = 3
NUM_SHOWN_ROWS = 8
# What most files have, first; the rest stands under “More”.
USUAL_ROLES = {
    ColumnRole.QUESTION: "Question",
    ColumnRole.ANSWER: "Answer",
    ColumnRole.SYSTEM: "Instruction",
    ColumnRole.MESSAGES: "Whole conversation",
    ColumnRole.IGNORE: "Ignore",
}
FURTHER_ROLES = {
    ColumnRole.BETTER: "Better answer",
    ColumnRole.WORSE: "Worse answer",
    ColumnRole.TEXT: "Text",
    ColumnRole.HISTORY: "Earlier turns",
    ColumnRole.KEY: "Conversation name or number",
    ColumnRole.SPEAKER: "Who speaks",
    ColumnRole.ANSWER_TO_NAME: "Answer to the column’s name",
    ColumnRole.WEIGHT: "Whether to learn it",
    ColumnRole.TOOLS: "Tools (functions)",
}
DEFAULT_LENGTH = PRESETS["balanced"].config.max_length_tokens
SPEAKERS = {
    "system": "Instruction",
    "user": "Question",
    "assistant": "Answer",
    "tool": "Tool",
    "text": "Text",
}
# What a word for a role may stand for.
TURN_ROLES = [
    ("", "not chosen: its rows are left out"),
    *(
        (role.value, words)
        for role, words in zip(
            TurnRole, ("the instruction", "who asks", "who answers", "a tool"), strict=True
        )
    ),
]
NUM_WORDS = 40
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
# A worker has them, or is about to.
_BUSY = (
    VersionStatus.UPLOADED,
    VersionStatus.INSPECTING,
    VersionStatus.CONFIRMED,
    VersionStatus.BUILDING,
)


@dataclass(frozen=True)
class NewPage:
    """datasets/new.html: asks for a file; `name` is what was typed."""

    name: str
    error: AppError | None


@dataclass(frozen=True)
class Housekeeping:
    """What each page of a version shows beside its own: other versions, and the name to change."""

    standing: Standing
    history: list[tuple[DatasetVersion, Standing, str]]
    typed_name: str


@dataclass(frozen=True)
class BusyPage:
    """datasets/show.html: a version that is being read, or failed."""

    kept: Housekeeping
    is_busy: bool
    num_ahead: int  # how many files are read before this one


@dataclass(frozen=True)
class PreviewRow:
    """A row of the file: its number and its cells, in the columns' order."""

    number: int
    cells: list[str]


@dataclass(frozen=True)
class PreviewConversation:
    """What becomes of a row: an example, or the reason why it is left out."""

    number: int
    messages: list[dict[str, Any]]
    left_out: str = ""


@dataclass(frozen=True)
class ColumnsPage:
    """datasets/columns.html: what the columns are, and what the first rows become."""

    kept: Housekeeping
    typed_read_as: ReadAsForm
    inspection: Inspection
    form: MappingForm
    heads: list[tuple[str, str]]
    usual_roles: list[tuple[str, str]]
    further_roles: list[tuple[str, str]]
    rows: list[PreviewRow]
    words: list["UnknownWord"]  # that nobody but a person can explain
    turn_roles: list[tuple[str, str]]
    answer_speakers: list[tuple[str, str]]
    conversations: list[PreviewConversation]
    problem: str
    joined: list[str]  # what was chosen for several columns
    too_few: str  # whatever the columns are, no examples will be made of it
    speakers: dict[str, str]
    encodings: dict[str, str]
    delimiters: dict[str, str]
    all_sheets: str


class UnknownWord(NamedTuple):
    """A word for a role or a speaker, in how many turns, and what a person says that it means."""

    field: str
    word: str
    num_turns: int
    meaning: str


@dataclass(frozen=True)
class Bar:
    """A bar of a picture of lengths, from and up to a length; the last may have no end."""

    first: int
    last: int | None
    count: int
    percent: float


@dataclass(frozen=True)
class Lengths:
    """How many tokens a version's examples have for a model, and what the model can read."""

    histogram: LengthHistogram | None
    num_counted: int
    context_tokens: int | None
    bars: list[Bar]
    problem: str


@dataclass(frozen=True)
class LengthsView:
    """How long a version's examples are for one of the starting models that are here."""

    models: list[tuple[str, str]]
    model: BaseModel | None
    lengths: Lengths


@dataclass(frozen=True)
class ModelView(LengthsView):
    """A version's examples as a starting model sees them."""

    split: str
    splits: list[tuple[str, str]]  # which sets can be leafed through, each with its name
    seen: "Seen | None"
    unfit: list[str]  # what the model does not take of it, or drops, a sentence each


class Seen(NamedTuple):
    """One example as a base model sees it."""

    example: Example
    position: int  # from 1, among those that are leafed through
    total: int
    segments: list[Segment]
    worse: list[Segment]  # of a pair, with the worse answer
    is_cut: bool  # a job of the usual length would cut something off
    problem: str


def is_busy(version: DatasetVersion) -> bool:
    """Say whether a worker has it, or is about to."""
    return version.status in _BUSY


def num_ahead(db: Session, version: DatasetVersion) -> int:
    """Count the files, of all departments, that a worker reads before this one."""
    ahead = (DatasetVersion.id < version.id, DatasetVersion.status.in_(_BUSY))
    return db.scalar(select(func.count()).select_from(DatasetVersion).where(*ahead)) or 0


def housekeeping(
    db: Session, version: DatasetVersion, typed_name: str | None = None
) -> Housekeeping:
    """Return what each page of a version shows beside its own."""
    dataset = version.dataset
    known = states.of_many(db, dataset.versions)
    return Housekeeping(
        standing=known[version.id],
        history=[(one, known[one.id], words) for one, words in history(dataset)],
        typed_name=dataset.name if typed_name is None else typed_name,
    )


def busy_page(db: Session, version: DatasetVersion, kept: Housekeeping) -> BusyPage:
    """Return what the page shows of a version that is being read, or failed."""
    waits = version.status is VersionStatus.UPLOADED
    return BusyPage(kept, is_busy(version), num_ahead(db, version) if waits else 0)


def history(dataset: Dataset) -> list[tuple[DatasetVersion, str]]:
    """Return a dataset's versions, the newest first, each with what made it differ."""
    numbers = {version.id: version.number for version in dataset.versions}
    lines = []
    for version in reversed(dataset.versions):
        base = numbers.get(version.base_version_id or 0)
        if base is None:
            words = _what_changed(version) if version.changes else "as uploaded"
        elif version.changes:
            words = f"from version {base}: {_what_changed(version)}"
        else:
            words = f"the same file as version {base}, with other columns or other sets"
        lines.append((version, words))
    return lines


def _what_changed(version: DatasetVersion) -> str:
    return f"{(version.changes or {})['why']} ({changes.described(version)})"


# --- columns -------------------------------------------------------------------------------


def form_of(version: DatasetVersion) -> MappingForm:
    """Fill the form with what is proposed, or was confirmed."""
    mapping = versions.mapping_of(version)
    assert mapping is not None
    return MappingForm(
        column=[column.name for column in mapping.columns],
        role=[column.role.value for column in mapping.columns],
        system=mapping.system,
        answers_by=mapping.answers_by,
        roles=[f"{word}={role}" for word, role in mapping.roles.items()],
        speakers=[f"{word}={role}" for word, role in mapping.speakers.items()],
        placeholders=mapping.placeholders,
        continued=mapping.continued,
        test_percent=f"{version.validation_share * 100:g}",
        seed=str(version.split_seed),
    )


def mapping_from(form: MappingForm) -> Mapping:
    """Read the mapping out of the form.

    Raises:
        Invalid: with the field it is about.
    """
    problems = Problems()
    if len(form.column) != len(form.role) or not set(form.role) <= {
        role.value for role in ColumnRole
    }:
        problems.add("Choose what each column is.", "columns")
    if len(form.system) > mappings.MAX_SYSTEM_LENGTH:
        problems.add(f"Use at most {mappings.MAX_SYSTEM_LENGTH:,} characters.", "system")
    if len(form.answers_by) > mappings.MAX_SPEAKER_LENGTH:
        problems.add("Choose who gives the answers.", "answers_by")
    with problems:
        roles = turn_roles(form.roles, "roles")
    with problems:
        speakers = turn_roles(form.speakers, "speakers")
    problems.check()
    columns = [
        {"name": name, "role": role} for name, role in zip(form.column, form.role, strict=True)
    ]
    return Mapping.model_validate(
        {
            "columns": columns,
            "system": form.system.strip(),
            "answers_by": form.answers_by.strip(),
            "roles": roles,
            "speakers": speakers,
            "placeholders": form.placeholders,
            "continued": form.continued,
        }
    )


def turn_roles(chosen: list[str], field: str) -> dict[str, TurnRole]:
    """Read what words mean, `teacher=assistant` each; one without a meaning says nothing.

    Raises:
        Invalid: a meaning is none, or there are too many; with the field.
    """
    pairs = [each.rpartition("=") for each in chosen]
    meant = {word: role for word, _, role in pairs if word and role}
    if len(meant) > mappings.MAX_WORDS or not set(meant.values()) <= set(TurnRole):
        raise Invalid("Choose who each word stands for.", field=field)
    return {word: TurnRole(role) for word, role in meant.items()}


def share_from(form: MappingForm | SplitForm) -> float:
    """Read the test set's share, from 0 to 1.

    Raises:
        Invalid: it is no number, or out of bounds; with the field `test_percent`.
    """
    try:
        share = float(form.test_percent.replace(",", ".").strip().rstrip("%")) / 100
    except ValueError:
        share = -1
    if not 0 <= share <= versions.MAX_VALIDATION_SHARE:
        raise Invalid(
            f"Write a number from 0 to {versions.MAX_VALIDATION_SHARE * 100:.0f}, such as 10.",
            field="test_percent",
        )
    return share


def seed_from(form: MappingForm | SplitForm) -> int:
    """Read the seed of the split.

    Raises:
        Invalid: it is no whole number; with the field `seed`.
    """
    try:
        return int(form.seed)
    except ValueError:
        raise Invalid("The seed is a whole number, such as 0.", field="seed") from None


def read_as_from(form: ReadAsForm) -> ReadAs:
    """Read how the file is to be read; what was left alone goes by the content.

    Raises:
        Invalid: pieces of text cannot be cut like this; with the field it is about.
    """
    problems = Problems()
    chunk = DEFAULT_CHUNK_TOKENS
    with problems:
        bounds = (MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS)
        chunk = whole_number(form.chunk_tokens, DEFAULT_CHUNK_TOKENS, bounds, "chunk_tokens")
    with problems:
        overlap = whole_number(form.overlap_tokens, 0, (0, chunk // 2), "overlap_tokens")
    with problems:
        header_row = header_row_from(form)
    with problems:
        pause_minutes = _pause_from(form.pause_minutes)
    with problems:
        options = _options_from(form.options) if form.options else "leave_out"
    with problems:
        files = _files_from(form)
    problems.check()
    return ReadAs(
        encoding=form.encoding if form.encoding in encodings.CHOICES else None,
        delimiter=form.delimiter if form.delimiter in DELIMITERS else None,
        sheet=form.sheet or None,
        header_row=header_row,
        hidden="take_in" if form.hidden == "take_in" else "leave_out",
        merged="leave_blank" if form.merged == "leave_blank" else "fill",
        separators=_separators_from(form.separators),
        options=options,
        pause_minutes=pause_minutes,
        files=files,
        form={"table": "table", "document": "document"}.get(form.form),
        way={"pairs": "pairs", "text": "text"}.get(form.way),
        chunk_tokens=chunk,
        overlap_tokens=overlap,
    )


def _separators_from(typed: str) -> Separators | None:
    return next((each for each in separators.ALL if each == typed), None)


def _pause_from(typed: str) -> int:
    bounds = (MIN_PAUSE_MINUTES, MAX_PAUSE_MINUTES)
    return whole_number(typed, DEFAULT_PAUSE_MINUTES, bounds, "pause_minutes")


def _files_from(form: ReadAsForm) -> dict[str, FileChoices]:
    """Read what was chosen for single files of a ZIP; what was left alone is as for all of them."""
    files = {}
    problems = Problems()
    for at, (name, shown, pause) in enumerate(
        zip(form.files, form.files_options, form.files_pause_minutes, strict=False)
    ):
        options, minutes = None, None
        with problems:
            options = _options_from(shown, f"files_options-{at}") if shown else None
        with problems:
            minutes = _pause_of(name, pause, f"files_pause_minutes-{at}") if pause.strip() else None
        if options or minutes:
            files[name] = FileChoices(options=options, pause_minutes=minutes)
    problems.check()
    return files


def _pause_of(name: str, typed: str, field: str) -> int:
    try:
        return _pause_from(typed)
    except Invalid:
        raise Invalid(
            f"“{visible(name)}” needs a whole number of minutes, from {MIN_PAUSE_MINUTES:,} to "
            f"{MAX_PAUSE_MINUTES:,}; leave it blank to read it as all files.",
            field=field,
        ) from None


def _options_from(chosen: str, field: str = "options") -> mappings.Options:
    for known in get_args(mappings.Options):
        if chosen == known:
            return cast(mappings.Options, known)
    raise Invalid("Choose from the list how options are shown.", field=field)


def header_row_from(form: ReadAsForm) -> int | None:
    """Read which row has the column names; 0 says that none has.

    Raises:
        Invalid: it is no number of a row; with the field `header_row`.
    """
    typed = form.header_row.strip()
    if not typed:
        return None
    if not (typed.isdecimal() and len(typed) < 6 and int(typed) <= MAX_HEADER_ROW):
        raise Invalid(
            f"Write the number of the row with the column names, at most {MAX_HEADER_ROW:,}, or 0 "
            "if there are none.",
            field="header_row",
        )
    return int(typed)


def whole_number(typed: str, default: int, bounds: tuple[int, int], field: str) -> int:
    """Read a whole number within bounds; what was left empty is the default.

    Raises:
        Invalid: it is none; with the field.
    """
    if not typed.strip():
        return default
    number = int(typed) if typed.strip().isdecimal() and len(typed.strip()) < 10 else -1
    if not bounds[0] <= number <= bounds[1]:
        raise Invalid(
            f"Write a whole number from {bounds[0]:,} to {bounds[1]:,}, such as {default}.",
            field=field,
        )
    return number


def columns_page(
    version: DatasetVersion,
    kept: Housekeeping,
    form: MappingForm | None = None,
    typed_read_as: ReadAsForm | None = None,
) -> ColumnsPage:
    """Return what the page with the columns shows."""
    inspection = versions.inspection_of(version)
    assert inspection is not None
    form = form or form_of(version)
    try:
        mapping = mapping_from(form)
        mapping.check(inspection.columns)
        conversations, problem = _conversations(inspection, mapping), ""
    except Invalid as invalid:
        conversations, problem = [], invalid.message
    return ColumnsPage(
        kept=kept,
        typed_read_as=typed_read_as or _typed(version),
        inspection=inspection,
        form=form,
        heads=list(zip(form.column, form.role, strict=False)),
        usual_roles=[(role.value, words) for role, words in USUAL_ROLES.items()],
        further_roles=[(role.value, words) for role, words in FURTHER_ROLES.items()],
        rows=[_row(row, form.column) for row in inspection.preview[:NUM_SHOWN_ROWS]],
        answer_speakers=_speakers(inspection, form),
        words=[
            *_words("roles", form.roles, _unknown_roles(inspection, form)),
            *_words("speakers", form.speakers, _unknown_speakers(inspection, form)),
        ],
        turn_roles=TURN_ROLES,
        conversations=conversations,
        problem=problem,
        joined=[] if problem else _joined(form),
        too_few=states.too_few(version),
        speakers=SPEAKERS,
        encodings=encodings.CHOICES,
        delimiters=DELIMITERS,
        all_sheets=ALL_SHEETS,
    )


def _joined(form: MappingForm) -> list[str]:
    """Say which choice was made for several columns, whose texts are then joined."""
    counts = Counter(form.role)
    return [
        f"{counts[role.value]} columns are set to “{USUAL_ROLES[role]}”: their texts are put "
        "together, one after the other."
        for role in (ColumnRole.QUESTION, ColumnRole.ANSWER, ColumnRole.SYSTEM)
        if counts[role.value] > 1
    ]


def _typed(version: DatasetVersion) -> ReadAsForm:
    """Fill the form with how a person asked for the file to be read."""
    wished = ReadAs.model_validate(version.read_as or {})
    row = "" if wished.header_row is None else str(wished.header_row)
    return ReadAsForm(
        header_row=row,
        hidden=wished.hidden,
        merged=wished.merged,
        separators=wished.separators or "",
        options=wished.options,
        pause_minutes=str(wished.pause_minutes),
        files=list(wished.files),
        files_options=[one.options or "" for one in wished.files.values()],
        files_pause_minutes=[str(one.pause_minutes or "") for one in wished.files.values()],
    )


def _conversations(inspection: Inspection, mapping: Mapping) -> list[PreviewConversation]:
    rows = [(row.number, row.values) for row in inspection.preview]
    shown = []
    made = assemble(mapping, lambda: iter(rows))
    for number, messages, _ in islice(made, NUM_PREVIEW_CONVERSATIONS):
        if isinstance(messages, mappings.LeftOut):
            text = f"Left out: {examples.this_row(messages)}."
            shown.append(PreviewConversation(number, [], text))
        else:
            shown.append(PreviewConversation(number, messages))
    return shown


def _speakers(inspection: Inspection, form: MappingForm) -> list[tuple[str, str]]:
    """Return who speaks in the first rows, to choose from; nothing where no column says it."""
    columns = dict(zip(form.role, form.column, strict=False))
    name = columns.get(ColumnRole.SPEAKER.value)
    if name is None:
        return []
    names = dict.fromkeys(
        text for row in inspection.preview if (text := _cell(row.values.get(name)).strip())
    )
    chosen = {form.answers_by: None} if form.answers_by else {}
    options = [(each, each) for each in (names | chosen) if len(each) <= 200]
    return [("", "assistant, agent, support and the like"), *options]


def _unknown_roles(inspection: Inspection, form: MappingForm) -> dict[str, int]:
    """Count the words for roles that a person has to explain, in the columns with turns."""
    found: dict[str, int] = {}
    for name, role in zip(form.column, form.role, strict=False):
        if role != ColumnRole.IGNORE.value:
            for word, number in inspection.unknown_roles.get(name, {}).items():
                found[word] = found.get(word, 0) + number
    return found


def _unknown_speakers(inspection: Inspection, form: MappingForm) -> dict[str, int]:
    """Count who speaks in the first rows and is not known; who gives the answers is."""
    columns = dict(zip(form.role, form.column, strict=False))
    name = columns.get(ColumnRole.SPEAKER.value)
    if name is None or form.answers_by:
        return {}
    said = [plain_word(_cell(row.values.get(name))) for row in inspection.preview]
    return {word: said.count(word) for word in said if word and not mappings.knows_speaker(word)}


def _words(field: str, chosen: list[str], found: dict[str, int]) -> list[UnknownWord]:
    meant = {word: role for word, _, role in (each.rpartition("=") for each in chosen)}
    words = {**found, **dict.fromkeys(meant.keys() - found.keys(), 0)}
    by_count = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return [
        UnknownWord(field, word, number, meant.get(word, ""))
        for word, number in by_count[:NUM_WORDS]
    ]


def _row(row: inspections.PreviewRow, columns: list[str]) -> PreviewRow:
    return PreviewRow(row.number, [_cell(row.values.get(name)) for name in columns])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- examples ------------------------------------------------------------------------------


def model_view(
    db: Session, version: DatasetVersion, model_id: int | None, split: str, position: int
) -> ModelView:
    """Return what a starting model sees of a version, and how long its examples are."""
    known = lengths_view(db, version, model_id)
    return ModelView(
        models=known.models,
        model=known.model,
        lengths=known.lengths,
        split=split if split in list(Split) else "",
        splits=[
            ("", "all sets"),
            *((one.value, name) for one, name in parts.names(version).items()),
        ],
        seen=_seen(db, version, known.model, split, position),
        unfit=fits.sentences(db, version, known.model) if known.model is not None else [],
    )


def lengths_view(db: Session, version: DatasetVersion, model_id: int | None) -> LengthsView:
    """Return how long a version's examples are for a model; commit after it: counts are kept."""
    models = [model for model in base_models.list_models(db) if model.status is ModelStatus.READY]
    model = next((model for model in models if model.id == model_id), models[0] if models else None)
    histogram, problem = None, ""
    if model is not None:
        try:
            histogram = lengths.histogram(db, version, model)
        except AppError as error:
            problem = error.message
    return LengthsView(
        models=[(str(each.id), each.label) for each in models],
        model=model,
        lengths=Lengths(
            histogram=histogram,
            num_counted=sum(histogram.counts) if histogram else 0,
            context_tokens=context_of(model.config) if model and model.config else None,
            bars=_bars(histogram) if histogram else [],
            problem=problem,
        ),
    )


def _seen(
    db: Session, version: DatasetVersion, model: BaseModel | None, split: str, position: int
) -> Seen | None:
    chosen = Split(split) if split in list(Split) else None
    total = parts.count(version, chosen)
    position = min(max(position, 1), max(total, 1))
    rows = examples.page(db, version, chosen, offset=position - 1, limit=1)
    if not rows:
        return None
    example = rows[0]
    segments: list[Segment] = []
    worse: list[Segment] = []
    is_cut = False
    problem = "This shows what a starting model sees, once one is ready." if model is None else ""
    if model is not None:
        try:
            chat = ConfinedChat(base_models.folder(model), model.manifest_sha256)
            measured = chat.measure(example.messages, example.tools, DEFAULT_LENGTH)
            segments = measured.segments
            # Of plain texts nothing is lost: they are cut into pieces.
            is_cut = example.kind is not ExampleKind.TEXT and measured.num_tokens > DEFAULT_LENGTH
            if is_pair(example.messages):
                worse = chat.segments(worse_of(example.messages), example.tools)
        except ChatError as error:
            problem = f"{model.label} cannot take this example. {error}"
    return Seen(example, position, total, segments, worse, is_cut, problem)


def _bars(histogram: LengthHistogram) -> list[Bar]:
    most = max(histogram.counts, default=0) or 1
    bars = []
    lower = 1
    for upper, count in zip(histogram.upper_bounds, histogram.counts, strict=True):
        bars.append(Bar(lower, upper, count, 100 * count / most))
        lower = upper + 1
    # The bins double from 16 tokens on; those before the shortest example say nothing.
    first = next((index for index, bar in enumerate(bars) if bar.count), 0)
    return bars[first:]
