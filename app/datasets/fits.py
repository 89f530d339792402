"""Which rows of a version a starting model's chat template takes: counted once, and kept.

A template decides by who speaks when, by tools and by thoughts, not by what is said. So all rows
are counted by shape, and of each shape a few are tried in the confined child. Should one refuse a
row for its words after all, the trainer joins it or leaves it out as well, and says so.
"""

from contextlib import suppress
from typing import Any

from pydantic import BaseModel as Schema
from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import JSONPATH, aggregate_order_by
from sqlalchemy.orm import Session

from app.base_models import registry as base_models
from app.core.confined.chat import ConfinedChat
from app.core.models import BaseModel, DatasetVersion, Example
from app.core.sentences import counted
from app.datasets import examples, notes
from app.datasets.versions import inspection_of
from app.training.chat import ChatError

_NUM_TRIED = 3  # of each shape
_MAX_SHAPES = 2000
NUM_NAMED_ROWS = 5
_THOUGHT = '$[*] ? (@.reasoning_content != "" || @.content like_regex "</think>")'


class Fits(Schema):
    """Of how many rows a template takes what; kept as DatasetVersion.model_fits by model."""

    num_joined: int = 0  # taken once their turns are joined
    num_refused: int = 0
    num_thoughts_dropped: int = 0
    num_untried: int = 0  # of shapes beyond the most frequent ones
    problem: str = ""  # why the most frequent of them are not taken as they are
    rows: list[int] = []  # the first of those that are not, by their number in the file

    @property
    def num_unfit(self) -> int:
        """Return how many are not taken as they are."""
        return self.num_joined + self.num_refused


def of(db: Session, version: DatasetVersion, base_model: BaseModel) -> Fits:
    """Return what a model takes of a ready version, counted when it is first asked for.

    Raises:
        Conflict: the model is not ready.
        ChatError: its files cannot be used, or take too long.
    """
    key = str(base_model.id)
    if key in (version.model_fits or {}):
        return Fits.model_validate((version.model_fits or {})[key])
    chat = ConfinedChat(base_models.folder(base_model), base_model.manifest_sha256)
    chat.check()
    found, most = Fits(), 0
    unfit: list[int] = []
    shapes, found.num_untried = _shapes(db, version)
    for number, indices in shapes:
        tried = examples.at(db, version, indices[:_NUM_TRIED])
        said = chat.fits([one.messages for one in tried], [one.tools for one in tried])
        if any(one.drops_thoughts for one in said):
            found.num_thoughts_dropped += number
        bad = [one for one in said if not one.is_taken]
        if not bad:
            continue
        if all(one.is_joined or one.is_taken for one in said):
            found.num_joined += number
        else:
            found.num_refused += number
        unfit += indices
        if number > most:
            most, found.problem = number, bad[0].problem
    named = examples.at(db, version, sorted(unfit)[:NUM_NAMED_ROWS])
    found.rows = [row.flags["row"] for row in named if row.flags and "row" in row.flags]
    version.model_fits = (version.model_fits or {}) | {key: found.model_dump(mode="json")}
    db.flush()
    return found


def _shapes(db: Session, version: DatasetVersion) -> tuple[list[tuple[int, list[int]]], int]:
    """Count the rows of each shape, with the indices of the first few, the most frequent first.

    Also returns how many rows are of shapes that are too many to try.
    """

    def has(path: str) -> Any:
        return func.jsonb_path_exists(Example.messages, cast(path, JSONPATH))

    shape = func.concat_ws(
        "|",
        cast(func.jsonb_path_query_array(Example.messages, cast("$[*].role", JSONPATH)), Text),
        Example.tools.is_not(None),
        has("$[*].tool_calls"),
        has('$[*] ? (@.content == "")'),
        has(_THOUGHT),
    )
    indices = func.array_agg(aggregate_order_by(Example.index, Example.index))
    query = (
        select(func.count(), indices[1:NUM_NAMED_ROWS], func.sum(func.count()).over())
        .where(Example.version_id.in_(examples.layers(version)), *examples.counted_rows(version))
        .group_by(shape)
        .order_by(func.count().desc())
        .limit(_MAX_SHAPES)
    )
    rows = db.execute(query).all()
    shapes = [(number, list(found)) for number, found, _ in rows]
    total = int(rows[0][2]) if rows else 0
    return shapes, total - sum(number for number, _ in shapes)


def sentences(db: Session, version: DatasetVersion, base_model: BaseModel) -> list[str]:
    """Say what a model does not take of a version, or drops of it; nothing where it takes all."""
    found = Fits()
    with suppress(ChatError):  # that it cannot be used at all is said where its lengths are
        found = of(db, version, base_model)
    inspection = inspection_of(version)
    said = []
    if found.num_unfit:
        noun = inspection.place if inspection else "row"
        place = notes.where(noun, found.rows, found.num_unfit)
        said.append(
            counted(
                found.num_unfit,
                "{model} does not take 1 example as it is{place}. {problem}",
                "{model} does not take {n} examples as they are{place}. {problem}",
                model=base_model.label,
                place=place,
                problem=found.problem if found.problem.endswith(".") else f"{found.problem}.",
            )
        )
    if found.num_joined:
        said.append(
            counted(
                found.num_joined,
                "Of 1, turns that follow each other are joined; or a job leaves it out, as you "
                "choose.",
                "Of {n}, turns that follow each other are joined; or a job leaves them out, as you "
                "choose.",
            )
        )
    if found.num_refused:
        said.append(
            counted(
                found.num_refused,
                "1 cannot be joined and is left out.",
                "{n} cannot be joined and are left out.",
            )
        )
    if found.num_thoughts_dropped:
        said.append(
            counted(
                found.num_thoughts_dropped,
                "1 example has reasoning that {model} does not learn: its chat template has no "
                "place for it, or drops it in all but the last answer.",
                "{n} examples have reasoning that {model} does not learn: its chat template has no "
                "place for it, or drops it in all but the last answer.",
                model=base_model.label,
            )
        )
    if found.num_untried:
        said.append(
            counted(
                found.num_untried,
                "1 example has an order of turns that was not tried with {model}, since there are "
                "so many; should it not fit, the job will say so.",
                "{n} examples have orders of turns that were not tried with {model}, since there "
                "are so many; should some not fit, the job will say so.",
                model=base_model.label,
            )
        )
    return said
