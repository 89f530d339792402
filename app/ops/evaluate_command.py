"""`etude evaluate`: how many answers of a trained model are right, through /v1."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from app.core.errors import AppError, Invalid
from app.ops.terminal import harmless, line
from app.ops.v1_client import Answered, Api, JsonObject, find_model, patiently

FINAL = ("done", "failed", "cancelled")
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_PAGE_ROWS = 100
_BEING_SEARCHED = ("stated", "waiting", "scanning")
_KEEP = (
    '{"decision": "keep", "reason": "These are only asked and marked; nothing is learned here."}'
)
_COLUMNS = ("right", "partly", "unsure", "wrong")


def start(
    api: Api, wanted: str, data: str | None = None, tell: Callable[[str], object] = str
) -> JsonObject:
    """Have a model evaluated; one that is being evaluated already is taken as it is.

    Args:
        data: A file of questions and answers, all of which are asked, or the id of one in Etude.

    Raises:
        Invalid: there is no such model or file, or it was not trained here.
        Answered: Etude refuses it.
    """
    model = find_model(api, wanted)
    if model["x_kind"] == "base":
        raise Invalid(f"“{wanted}” is a starting model; name one that was trained here.")
    body: JsonObject = {"model": model["id"]}
    if data is not None:
        body["file"] = _file(api, data, tell)
    try:
        return api.post("/x_evaluations", body)
    except Answered as refusal:
        found = newest(api, str(model["id"]))
        goes_on = found is not None and found["status"] not in FINAL
        if data is None and refusal.status == 409 and found is not None and goes_on:
            return found
        raise


def _file(api: Api, data: str, tell: Callable[[str], object]) -> str:
    """Send a file, and wait until its rows are read and may be used."""
    path = Path(data)
    if not path.is_file():
        if data.startswith("file-"):
            return data
        raise Invalid(f"There is no file {data}.")
    # Nothing is learned from it: it is asked and marked on this machine alone.
    sent = api.upload(path, "fine-tune", x_privacy=_KEEP)
    tell("Etude reads the questions first.")
    while True:
        shown = api.get(f"/files/{quote(sent['id'])}")
        review = (shown["x_privacy"] or {}).get("status", "none")
        if shown["status"] != "uploaded" and review not in _BEING_SEARCHED:
            return str(sent["id"])
        time.sleep(_POLL_SECONDS)


def newest(api: Api, model: str) -> JsonObject | None:
    """Return the newest evaluation of a model."""
    found = api.get(f"/x_evaluations?model={quote(model, safe='')}")["data"]
    return found[0] if found else None


def watch(api: Api, evaluation: JsonObject, tell: Callable[[str], object]) -> JsonObject:
    """Wait until an evaluation is over; Etude may be started again meanwhile."""
    told = ""
    while evaluation["status"] not in FINAL:
        said = _far(evaluation)
        if said != told:
            tell(said)
            told = said
        time.sleep(_POLL_SECONDS)
        address = f"/x_evaluations/{quote(evaluation['id'])}"
        evaluation = patiently(lambda at=address: api.get(at), _PATIENCE_SECONDS, tell)  # type: ignore[misc]
    return evaluation


def with_rows(api: Api, evaluation: JsonObject) -> JsonObject:
    """Return what `--json` prints: the counts, the verdict, and each question with its answers."""
    rows: list[JsonObject] = []
    after = ""
    try:
        while True:
            address = f"/x_evaluations/{quote(evaluation['id'])}/rows"
            page = api.get(f"{address}?limit={_PAGE_ROWS}{after}")
            rows += page["data"]
            if not page["has_more"]:
                break
            after = f"&after={rows[-1]['position']}"
    except AppError as refusal:
        if refusal.status != 403:  # the counts are for everybody, the rows for who may read them
            raise
    return {**evaluation, "rows": rows}


def show(evaluation: JsonObject, output: TextIO) -> None:
    """Print an evaluation as a table."""
    if evaluation["status"] != "done":
        print(harmless(evaluation["reason"] or "It was cancelled."), file=output)
        return
    print(harmless(evaluation["summary"]), file=output)
    print(file=output)
    print(f"{'':14}{'right':>8}{'partly':>8}{'to check':>10}{'wrong':>8}", file=output)
    for arm, count in evaluation["arms"].items():
        right, partly, unsure, wrong = (count[name] for name in _COLUMNS)
        print(f"{line(arm):14}{right:8}{partly:8}{unsure:10}{wrong:8}", file=output)


def _far(evaluation: JsonObject) -> str:
    if evaluation["status"] == "waiting":
        return "It waits until a device is free."
    asked = evaluation["num_questions"]
    return f"{evaluation['num_answered']:,} of {asked:,} questions are answered." if asked else "…"
