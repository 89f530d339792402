"""How a file is to be read, and what was found in it: what a version keeps of both."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.datasets.continued import GoingOn
from app.datasets.mapping import MAX_WORDS, Hidden, Mapping, Merged, Options, Separators
from app.datasets.notes import Note
from app.datasets.readers import chats, documents, headers
from app.datasets.turns import TurnRole, plain_word

Format = Literal[
    "csv",
    "json",
    "jsonl",
    "xlsx",
    "xls",
    "ods",
    "parquet",
    "markdown",
    "text",
    "docx",
    "pdf",
    "gift",
    "aiken",
    "quiz",
    "anki",
    "whatsapp",
    "subtitles",
    "mail",
    "slack",
    "zip",
    "odt",
    "rtf",
    "pptx",
    "html",
    "spreadsheetml",
    "epub",
]
# Instead of a sheet's name, which cannot hold this sign: all of them as one table.
ALL_SHEETS = "*"
MAX_CHOSEN_FILES = 1000
NUM_PREVIEW_ROWS = 20
DocumentUse = Literal["pairs", "text"]


class FileChoices(BaseModel):
    """What a person chose for one file of a ZIP; what is not said is as for all of them."""

    model_config = ConfigDict(extra="forbid")

    options: Options | None = None
    pause_minutes: int | None = Field(
        default=None, ge=chats.MIN_PAUSE_MINUTES, le=chats.MAX_PAUSE_MINUTES
    )


class ReadAs(BaseModel):
    """How a person says that a file is to be read; what is left out goes by the content."""

    model_config = ConfigDict(extra="forbid")

    encoding: str | None = Field(default=None, max_length=40)
    # The whole file was read in this encoding before.
    is_checked: bool = False
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    sheet: str | None = Field(default=None, max_length=200)
    # Of a table: the number of the row with the column names; 0: none has.
    header_row: int | None = Field(default=None, ge=0, le=headers.MAX_HEADER_ROW)
    # As it was said before rows had numbers: whether the first has them.
    has_header: bool | None = None
    # Of a workbook: rows and columns that are hidden or filtered out, and merged cells.
    hidden: Hidden = "leave_out"
    merged: Merged = "fill"
    # How its numbers are written; None: as the language of the texts has it.
    separators: Separators | None = None
    # Of a quiz: what stands below a question; of a chat: how long a pause begins a new one.
    options: Options = "leave_out"
    pause_minutes: int = Field(
        default=chats.DEFAULT_PAUSE_MINUTES,
        ge=chats.MIN_PAUSE_MINUTES,
        le=chats.MAX_PAUSE_MINUTES,
    )
    # Of a ZIP: the last two for single files of it, by their names.
    files: dict[str, FileChoices] = Field(default={}, max_length=MAX_CHOSEN_FILES)
    # Columns as the file has them, for sheets that people get back: neither a quiz nor a chat.
    as_it_stands: bool = False
    # Of a text file: rows and columns, or prose.
    form: Literal["table", "document"] | None = None
    # Of a document: its own questions and answers, or its text in pieces.
    way: DocumentUse | None = None
    chunk_tokens: int = Field(
        default=documents.DEFAULT_CHUNK_TOKENS,
        ge=documents.MIN_CHUNK_TOKENS,
        le=documents.MAX_CHUNK_TOKENS,
    )
    overlap_tokens: int = Field(default=0, ge=0)
    # What words for roles and for speakers mean: for the mapping that is proposed.
    roles: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    speakers: dict[str, TurnRole] = Field(default={}, max_length=MAX_WORDS)
    placeholders: bool = False
    # Rows that have an answer alone go on with the answer above; None: as it is proposed.
    continued: bool | None = None

    @model_validator(mode="after")
    def _overlap_fits(self) -> "ReadAs":
        if self.overlap_tokens * 2 > self.chunk_tokens:
            raise ValueError("pieces may overlap by at most half of their length")
        return self

    def of_file(self, name: str) -> "ReadAs":
        """Say how one file of a ZIP is to be read."""
        chosen = self.files.get(name, FileChoices()).model_dump(exclude_none=True)
        return self.model_copy(update={"files": {}, **chosen})

    def explain(self, mapping: Mapping) -> None:
        """Put into a mapping what a person said of words."""
        mapping.roles, mapping.speakers = (
            {plain_word(word): role for word, role in chosen.items()}
            for chosen in (self.roles, self.speakers)
        )
        mapping.placeholders = self.placeholders
        if self.continued is not None:
            mapping.continued = self.continued


class PreviewRow(BaseModel):
    number: int  # line of a text file, row of a sheet, place in a JSON list; from 1
    values: dict[str, Any]


class Part(BaseModel):
    """A sheet of a workbook or a file of an archive; rows are numbered through all of them."""

    name: str
    num_rows: int = 0
    # How it was read, of what has options to choose from and of what pauses divide.
    options: Options | None = None
    pause_minutes: int | None = None


class Inspection(BaseModel):
    """What the reader found; kept as DatasetVersion.inspection."""

    format: Format
    # What a row's number counts: "line" or "row" or "entry", "paragraph" or "page".
    place: str
    encoding: str | None = None
    # No proof but a guess: the person looks at the preview and may choose another.
    encoding_is_guess: bool = False
    # Another encoding fits as well and gives other letters: no program may go on.
    encoding_is_doubtful: bool = False
    delimiter: str | None = None
    sheet: str | None = None
    sheets: list[str] = []
    # The sheets have the same columns and may be read as one table.
    sheets_agree: bool = False
    has_header: bool = True
    # Of a table: the number of the row with the names, 0 where none has; unknown to old versions.
    header_row: int | None = None
    # Of a workbook or slides; unknown to old versions, which had hidden rows, no filled cells and
    # English numbers.
    hidden: Hidden | None = None
    merged: Merged | None = None
    separators: Separators | None = None
    # Which of them the sheet shows cannot be told: no program may go on.
    numbers_are_doubtful: bool = False
    # Of what has options to choose from, and of what pauses divide.
    options: Options | None = None
    pause_minutes: int | None = None
    # What was chosen for single files of a ZIP.
    files: dict[str, FileChoices] = {}
    # Of a document: the way that was taken, and how long the pieces of text are.
    way: DocumentUse | None = None
    chunk_tokens: int = documents.DEFAULT_CHUNK_TOKENS
    overlap_tokens: int = 0
    # Where pairs of a document were found: {"heading": 12, "table": 3}.
    found_in: dict[str, int] = {}
    parts: list[Part] = []
    columns: list[str]
    num_rows: int
    preview: list[PreviewRow]
    # One sentence each.
    warnings: list[str] = []
    # What the proposed mapping rests on, as a sentence, and whether it needs no person to look.
    why: str = ""
    is_sure: bool = False
    # The first rows that became no example, by reason; known once the examples are built.
    left_out_rows: dict[str, list[int]] = {}
    # What was met in them, by reason: {"unknown_role": {"teacher": 2}}.
    left_out_words: dict[str, dict[str, int]] = {}
    # What was passed over in rows that did; known then, too.
    notes: list[Note] = []
    # Words for roles in lists of turns that a person has to say the meaning of, by column: in how
    # many turns of the whole file.
    unknown_roles: dict[str, dict[str, int]] = {}
    # Rows of a table that say something in one column alone, by that column.
    going_on: dict[str, GoingOn] = {}

    @property
    def is_document(self) -> bool:
        return self.way is not None

    @property
    def reading(self) -> dict[str, Any]:
        """What a mapping keeps of how the file was read."""
        return {
            "header_row": self.header_row,
            "hidden": self.hidden,
            "merged": self.merged,
            "separators": self.separators,
            "options": self.options,
            "pause_minutes": self.pause_minutes,
            "files": {n: one.model_dump(exclude_none=True) for n, one in self.files.items()},
        }

    def read_as(self, chosen: ReadAs) -> ReadAs:
        """Say how to read the file again just as it was read, whatever would be guessed today."""
        if self.format == "zip":  # each file in it was judged by itself
            return chosen.model_copy(update={"way": self.way})
        header: dict[str, Any] = {"header_row": self.header_row, "has_header": None}
        if self.header_row is None:  # read before rows had numbers
            header = {"header_row": None, "has_header": self.has_header}
        if self.parts:  # each sheet has its own
            header = {}
        return chosen.model_copy(
            update=header
            | {
                "encoding": self.encoding,
                "is_checked": True,
                "delimiter": self.delimiter,
                "sheet": self.sheet,
                "hidden": self.hidden or "take_in",
                "merged": self.merged or "leave_blank",
                "separators": self.separators or "english",
                # Subtitles that name nobody are a document, and no plain text.
                "form": "document" if self.is_document and self.format != "subtitles" else "table",
                "way": self.way,
            }
        )


def new_inspection(format_: Format, place: str) -> Inspection:
    """Begin with a file of which nothing is known but its format."""
    return Inspection(format=format_, place=place, columns=[], num_rows=0, preview=[])
