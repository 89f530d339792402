"""What a browser may send, one pydantic model per form.

Fields take any text: the domain judges it, so that a wrong form comes back as it was typed, with
a word beside the field. A field that no page of ours sends is refused.
"""

from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.core.errors import Invalid

# No row and no page of ours has a larger number: PostgreSQL's integer.
LARGEST = 2**31 - 1


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        """Refuse what no page sends and no database keeps as text."""
        if not all(is_text(each) for each in (value if isinstance(value, list) else [value])):
            raise ValueError("it holds a character that is no text")
        return value


async def sent_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form that has a class of its own, not one of these.

    Raises:
        Invalid: as for these, a field holds what is no text.
    """
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    if not all(is_text(each) for field in fields.items() for each in field):
        raise Invalid("The form holds a character that is no text. Go back and remove it.")
    return fields


def is_text(value: object) -> bool:
    """Say whether a value is no string, or one that PostgreSQL can keep."""
    return not isinstance(value, str) or not any(
        char == "\0" or "\ud800" <= char <= "\udfff" for char in value
    )


def row_number(typed: str) -> int | None:
    """Return the number of a row that was typed or chosen; None: no row has such a number."""
    if not (typed.isascii() and typed.isdecimal() and len(typed) <= 10):
        return None
    return int(typed) if int(typed) <= LARGEST else None


class SignInForm(Form):
    email: str = ""
    password: str = ""
    shared: str = ""  # others use this computer, too
    next: str = "/"


class SetupForm(Form):
    email: str = ""
    name: str = ""
    password: str = ""
    password_again: str = ""


class PasswordForm(Form):
    old_password: str = ""
    password: str = ""
    password_again: str = ""


class NameForm(Form):
    name: str = ""


class MachineForm(Form):
    machine: str = ""


class MailForm(Form):
    """Which kinds of notices come by mail."""

    kinds: Annotated[list[str], Field(max_length=20)] = []


class WebhookForm(Form):
    name: str = ""
    url: str = ""


class PersonForm(Form):
    email: str = ""
    name: str = ""
    role: str = "member"


class RoleForm(Form):
    role: str = ""


class MappingForm(Form):
    """The heads of the preview's columns, in order: a name and a role each."""

    column: Annotated[list[str], Field(max_length=2000)] = []
    role: Annotated[list[str], Field(max_length=2000)] = []
    system: str = ""
    test_percent: str = "10"
    seed: str = "0"
    # Who gives the answers, where a column says who speaks.
    answers_by: str = ""
    # What a word for a role, or for a speaker, means: `teacher=assistant` each; `teacher=` says
    # nothing yet.
    roles: Annotated[list[str], Field(max_length=200)] = []
    speakers: Annotated[list[str], Field(max_length=200)] = []
    placeholders: bool = False
    continued: bool = False


class ReadAsForm(Form):
    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    header_row: str = ""
    hidden: str = ""
    merged: str = ""
    separators: str = ""
    options: str = ""
    pause_minutes: str = ""
    # Of a ZIP, for each file that has any of both: its name, and what was chosen for it.
    files: Annotated[list[str], Field(max_length=1000)] = []
    files_options: Annotated[list[str], Field(max_length=1000)] = []
    files_pause_minutes: Annotated[list[str], Field(max_length=1000)] = []
    form: str = ""
    way: str = ""
    chunk_tokens: str = ""
    overlap_tokens: str = ""


class ExampleForm(Form):
    """One example: what each turn says, in order, and which set it is in."""

    content: Annotated[list[str], Field(max_length=2000)] = []
    rejected: Annotated[list[str], Field(max_length=2000)] = []
    split: str = ""


class RowsForm(Form):
    """Rows that are written by hand: questions and answers, in order."""

    question: Annotated[list[str], Field(max_length=20)] = []
    answer: Annotated[list[str], Field(max_length=20)] = []


class GeneralQuestionForm(Form):
    """A general question of a department's own, and its right answer."""

    question: str = ""
    answer: str = ""


class SelectionForm(Form):
    """Ticked examples, and what to do with them."""

    index: Annotated[list[str], Field(max_length=1000)] = []
    action: str = ""
    sure: str = ""


class AskingForm(Form):
    """What is asked of a model that is to make up questions."""

    model: str = ""
    per_passage: str = ""
    max_pairs: str = ""


class VerdictForm(Form):
    """What a person says of one pair, and where they are in the list."""

    verdict: str = ""
    question: str = ""
    answer: str = ""
    said: str = ""
    after: str = ""


class AskForm(Form):
    """A question to an adapter, and how it is to be answered."""

    question: str = ""
    beside: str = "base"
    freedom: str = "same"
    instruction: str = ""
    conversation: str = ""
    # Where nothing is kept, what was said so far comes along: HistoryTurn of web/adapters/ask_page.
    history: str = ""
    example: str = ""  # ask this test question instead of what is in the box
    # Which answer is to be written: by its id, or where nothing is kept by its place.
    answer: str = ""
    place: str = ""


class LookForm(Form):
    """What somebody is typing, to see whether it points to a person."""

    text: str = ""


class JudgeForm(Form):
    """What somebody thinks of an answer."""

    thumb: str = ""
    better: str = ""
    action: str = ""


class QuestionListForm(Form):
    """Which column of a sheet has the questions, and how they are to be answered."""

    column: str = ""
    beside: str = "base"
    instruction: str = ""


class ShareForm(Form):
    """What an adapter's owner says to colleagues who are to ask it."""

    purpose: str = ""
    limits: str = ""
    reason: str = ""
    asks_per_day: str = "50"
    keeps_questions: str = ""


class ReportForm(Form):
    """An answer that somebody shows to the adapter's owner."""

    question: str = ""
    answer: str = ""
    proof: str = ""  # that the model said so (web/adapters/answer_proof)
    note: str = ""
    # What was said so far: the browser alone has it.
    history: str = ""


class FeedbackForm(Form):
    """Which feedback becomes data, and as what."""

    chosen: Annotated[list[str], Field(max_length=1000)] = []
    use_as: str = "examples"
    action: str = ""


class SplitForm(Form):
    test_percent: str = "10"
    seed: str = "0"


class FixForm(Form):
    fix: str = ""


class DeviceForm(Form):
    device: str = ""
    reason: str = ""


class LimitsForm(Form):
    """What a department or a person may have; empty: no limit."""

    share: str = ""
    max_running: str = ""
    max_queued: str = ""
    month_hours: str = ""
    opens: str = ""
    closes: str = ""
    weekends: str = ""
