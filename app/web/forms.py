"""What a browser may send, one pydantic model per form.

Fields take any text: the domain judges it, so that a wrong form comes back as it was typed, with
a word beside the field. A field that no page of ours sends is refused.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignInForm(Form):
    email: str = ""
    password: str = ""
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


class ReadAsForm(Form):
    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    has_header: str = ""
    form: str = ""
    way: str = ""
    chunk_tokens: str = ""
    overlap_tokens: str = ""


class ExampleForm(Form):
    """One example: what each turn says, in order, and which set it is in."""

    content: Annotated[list[str], Field(max_length=2000)] = []
    rejected: Annotated[list[str], Field(max_length=2000)] = []
    split: str = ""


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
