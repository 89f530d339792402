"""`etude data`: files to learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.ops.doors.shared import DataDir, Json, database_of, find_user, print_json, settings_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.core.models import User
    from app.datasets.readers.inspections import FileChoices, ReadAs
    from app.datasets.turns import TurnRole

data_app = typer.Typer(help="Files to learn from.", no_args_is_help=True)


DataFile = Annotated[
    Path, typer.Argument(help="A table, a document, a ZIP of files, or a folder of them")
]
MappingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mapping",
        metavar="COLUMN=ROLE",
        help="What a column is, e.g. Frage=question; repeat it for each column used",
    ),
]
SystemOption = Annotated[str, typer.Option("--system", help="Instruction for the model")]
EncodingOption = Annotated[
    str | None, typer.Option(help="e.g. utf-8, cp1252; the default is to detect it")
]
SheetOption = Annotated[
    str | None, typer.Option(help="The sheet to read; * reads all of them as one table")
]
HeaderRowOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="The row with the column names, 0 for none; the default is to find it"
    ),
]
HiddenOption = Annotated[
    Literal["leave_out", "take_in"],
    typer.Option(help="Hidden or filtered rows and columns, and hidden slides"),
]
MergedOption = Annotated[
    Literal["fill", "leave_blank"],
    typer.Option(help="The blank cells that belong to a merged cell above them"),
]
SeparatorsOption = Annotated[
    Literal["english", "german", "french", "swiss"] | None,
    typer.Option(
        help="Numbers are written 12,500.5, 12.500,5, 12 500,5 or 12’500.5; the default is as in "
        "the language of the texts"
    ),
]
OptionsOption = Annotated[
    Literal["leave_out", "list", "letters"],
    typer.Option(help="What stands below a question of a quiz: nothing, its options, or with a)"),
]
PauseOption = Annotated[
    int,
    typer.Option(
        min=1, max=43_200, help="How long a pause begins a new conversation of a chat, in minutes"
    ),
]
WayOption = Annotated[
    Literal["pairs", "text"] | None,
    typer.Option(help="For a document: its own questions and answers, or its text in pieces"),
]
ChunkOption = Annotated[
    int | None,
    typer.Option(help="Length of a piece of text in tokens, estimated; the default is 512"),
]
RolesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--roles",
        metavar="WORD=WHO",
        help="Whose turns a word for a role means, e.g. teacher=assistant; repeat it for each",
    ),
]
SpeakersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--speakers",
        metavar="WORD=WHO",
        help="The same, where a column says who speaks, e.g. Anna=user",
    ),
]
PlaceholdersOption = Annotated[
    bool,
    typer.Option("--placeholders", help="Words such as “nan” are meant and added to a question"),
]
ContinuedOption = Annotated[
    bool | None,
    typer.Option(
        "--continued/--no-continued",
        help="Rows that have an answer alone go on with the answer above; "
        "the default is as proposed",
    ),
]
FilesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--files",
        metavar="NAME:CHOICE=VALUE",
        help="The last two for one file of a ZIP, e.g. a.gift:options=letters; repeat it for each",
    ),
]
OverlapOption = Annotated[int, typer.Option(help="Tokens repeated from the previous piece")]


@data_app.command("inspect")
def data_inspect(
    file: DataFile,
    mapping: MappingOption = None,
    system: SystemOption = "",
    encoding: EncodingOption = None,
    sheet: SheetOption = None,
    header_row: HeaderRowOption = None,
    hidden: HiddenOption = "leave_out",
    merged: MergedOption = "fill",
    separators: SeparatorsOption = None,
    options: OptionsOption = "leave_out",
    pause_minutes: PauseOption = 240,
    files: FilesOption = None,
    way: WayOption = None,
    chunk_tokens: ChunkOption = None,
    overlap_tokens: OverlapOption = 0,
    roles: RolesOption = None,
    speakers: SpeakersOption = None,
    placeholders: PlaceholdersOption = False,
    continued: ContinuedOption = None,
    as_json: Json = False,
) -> None:
    """Read a file, say what is in it and what Etude would make of it; store nothing."""
    from app.ops import data_command

    read_as = _read_as(
        chunk_tokens,
        overlap_tokens,
        encoding=encoding,
        sheet=sheet,
        way=way,
        header_row=header_row,
        hidden=hidden,
        merged=merged,
        separators=separators,
        options=options,
        pause_minutes=pause_minutes,
        files=_files(files),
        roles=_meanings(roles),
        speakers=_meanings(speakers),
        placeholders=placeholders,
        continued=continued,
    )
    with data_command.as_file(file) as path:
        report = data_command.read(path, read_as, mapping or [], system, with_checks=True)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        typer.echo(data_command.as_text(report))


@data_app.command("add")
def data_add(
    file: DataFile,
    name: Annotated[str, typer.Option(help="Name that people see; the default is the file's")] = "",
    mapping: MappingOption = None,
    system: SystemOption = "",
    encoding: EncodingOption = None,
    sheet: SheetOption = None,
    header_row: HeaderRowOption = None,
    hidden: HiddenOption = "leave_out",
    merged: MergedOption = "fill",
    separators: SeparatorsOption = None,
    options: OptionsOption = "leave_out",
    pause_minutes: PauseOption = 240,
    files: FilesOption = None,
    way: WayOption = None,
    chunk_tokens: ChunkOption = None,
    overlap_tokens: OverlapOption = 0,
    roles: RolesOption = None,
    speakers: SpeakersOption = None,
    placeholders: PlaceholdersOption = False,
    continued: ContinuedOption = None,
    test_percent: Annotated[
        float, typer.Option(help="Share of examples kept for testing, in percent")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Seed for picking the test questions")] = 0,
    email: Annotated[
        str, typer.Option("--for", help="Owner's e-mail; the default is the first administrator")
    ] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Read a file and keep it as a dataset. With --mapping, or where the columns are plain, its
    examples are made at once, or as soon as Etude runs; else a person confirms them on the page.
    """
    from app.ops import data_command

    read_as = _read_as(
        chunk_tokens,
        overlap_tokens,
        encoding=encoding,
        sheet=sheet,
        way=way,
        header_row=header_row,
        hidden=hidden,
        merged=merged,
        separators=separators,
        options=options,
        pause_minutes=pause_minutes,
        files=_files(files),
        roles=_meanings(roles),
        speakers=_meanings(speakers),
        placeholders=placeholders,
        continued=continued,
    )
    settings_of(data_dir)
    with data_command.as_file(file) as path:
        report = data_command.read(path, read_as, mapping or [], system, with_checks=False)
        if mapping and report.problem:
            raise SystemExit(f"etude: {report.problem}")
        is_settled = bool(mapping) or report.inspection.is_sure
        with database_of(data_dir) as session:
            version = data_command.add(
                session,
                find_user(session, email) if email else _first_administrator(session),
                path,
                name,
                read_as,
                report,
                is_settled=is_settled,
                validation_share=test_percent / 100,
                seed=seed,
            )
            added = f"Added “{version.dataset.name}” (/versions/{version.id})"
            known = {"version_id": version.id, "name": version.dataset.name}
    if as_json:
        print_json(
            known
            | {
                "page": f"/versions/{known['version_id']}",
                "is_settled": is_settled,
                "num_examples": report.num_examples,
            }
        )
    elif is_settled:
        typer.echo(f"{added}: {report.num_examples:,} examples, made as soon as a worker is free.")
    else:
        typer.echo(f"{added}; confirm its columns there, or name them with --mapping.")


def _read_as(chunk_tokens: int | None, overlap_tokens: int, **chosen: Any) -> "ReadAs":
    from app.datasets.readers.documents import (
        DEFAULT_CHUNK_TOKENS,
        MAX_CHUNK_TOKENS,
        MIN_CHUNK_TOKENS,
    )
    from app.datasets.readers.inspections import ReadAs

    low, high = MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS
    chunk_tokens = DEFAULT_CHUNK_TOKENS if chunk_tokens is None else chunk_tokens
    if not low <= chunk_tokens <= high or not 0 <= overlap_tokens * 2 <= chunk_tokens:
        raise SystemExit(
            f"etude: --chunk-tokens is from {low} to {high}, --overlap-tokens from 0 to its half."
        )
    return ReadAs(chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens, **chosen)


def _files(said: list[str] | None) -> "dict[str, FileChoices]":
    from pydantic import ValidationError

    from app.datasets.readers.inspections import FileChoices

    chosen: dict[str, dict[str, str]] = {}
    for each in said or []:
        rest, _, value = each.rpartition("=")
        name, _, choice = rest.rpartition(":")
        chosen.setdefault(name, {})[choice] = value
    try:
        return {name: FileChoices.model_validate(choices) for name, choices in chosen.items()}
    except ValidationError:
        raise SystemExit(
            "etude: --files takes NAME:options=leave_out, list or letters, and "
            "NAME:pause_minutes= with 1 to 43200, where NAME is as it stands in the ZIP."
        ) from None


def _meanings(pairs: list[str] | None) -> "dict[str, TurnRole]":
    from app.datasets.turns import TurnRole

    meanings = {}
    for pair in pairs or []:
        word, _, who = pair.rpartition("=")
        if not word or who not in list(TurnRole):
            raise SystemExit(
                f"etude: “{pair}” says nobody; write WORD=WHO, where WHO is one of "
                f"{', '.join(TurnRole)}."
            )
        meanings[word] = TurnRole(who)
    return meanings


def _first_administrator(session: "Session") -> "User":
    from sqlalchemy import select

    from app.core.models import Role, User

    user = session.scalars(
        select(User)
        .where(User.role == Role.ADMIN, User.disabled_at.is_(None))
        .order_by(User.id)
        .limit(1)
    ).first()
    if user is None:
        raise SystemExit("etude: there is no administrator yet; `etude user add` adds one.")
    return user
