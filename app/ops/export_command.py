"""`etude export`: a trained model in the form that another program opens, through /v1."""

import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from app.core.errors import Invalid
from app.core.sentences import losses
from app.ops.v1_client import Api, JsonObject, Unreachable, find_model, patiently

FINAL = ("ready", "failed", "cancelled", "gone")
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 300.0
_MARGIN_BYTES = 64 * 1024**2


def require_folder(out: Path) -> None:
    """Refuse a folder that has something in it: nobody's files are written over.

    Raises:
        Invalid: it is a file, or not empty.
    """
    if out.exists() and not out.is_dir():
        raise Invalid(f"{out} is a file; name a folder.")
    if out.is_dir() and any(out.iterdir()):
        raise Invalid(f"{out} is not empty; name a new folder.")


def start(api: Api, wanted: str, form: str, quantization: str | None) -> JsonObject:
    """Have an export made; one that is ready or under way already is taken as it is.

    Raises:
        Invalid: there is no such model, or it was not trained here.
        Answered: Etude refuses it.
    """
    model = find_model(api, wanted)
    if model["x_kind"] == "base":
        raise Invalid(f"“{wanted}” is a starting model; name one that was trained here.")
    body: JsonObject = {"model": model["id"], "format": form}
    if quantization is not None:
        body["quantization"] = quantization
    return api.post("/x_exports", body)


def watch(api: Api, export: JsonObject, tell: Callable[[str], object]) -> JsonObject:
    """Wait until an export is over; Etude may be started again meanwhile."""
    told = ""
    address = f"/x_exports/{quote(export['id'])}"
    while export["status"] not in FINAL:
        said = (export["progress"] or {}).get("doing") or "waiting for its turn"
        if said != told:
            tell(f"{said[:1].upper()}{said[1:]}.")
            told = said
        time.sleep(_POLL_SECONDS)
        export = patiently(lambda: api.get(address), _PATIENCE_SECONDS, tell)
    return export


def fetch(api: Api, export: JsonObject, out: Path) -> None:
    """Download an export that is ready into a folder, unpacked; whole or not at all.

    Raises:
        Invalid: the disk has not got the room.
        Unreachable: what came is not what Etude has.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    needed, free = 2 * export["bytes"] + _MARGIN_BYTES, shutil.disk_usage(out.parent).free
    if free < needed:
        raise Invalid(
            f"Taking it along needs {needed / 1e9:,.1f} GB of free disk space at {out.parent}, and "
            f"{free / 1e9:,.1f} GB are free."
        )
    archive = out.with_name(f"{out.name}.zip.tmp")
    unpacked = out.with_name(f"{out.name}.tmp")
    try:
        digest = hashlib.sha256()
        with archive.open("wb") as file:
            for piece in api.download(f"/x_exports/{quote(export['id'])}/content"):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != export["sha256"]:
            raise Unreachable("The download is not what Etude has; please try again.")
        shutil.rmtree(unpacked, ignore_errors=True)
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(unpacked)
        (inner,) = unpacked.iterdir()
        if out.is_dir():
            out.rmdir()
        os.rename(inner, out)  # noqa: PTH104 - a folder in the place of an empty one
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)


def summary(export: JsonObject, out: Path) -> list[str]:
    """Say what was taken along, and how near it is to the adapter as it was trained."""
    lines = [f"It is in {out}; README.md says how to use it."]
    for each in export["agreement"]:
        lines.append(
            f"Opened by {each['program']} ({each['quantization']}): "
            f"{each['same_share'] * 100:.1f} % of the likeliest words are the same, "
            f"{losses(each['loss'], each['reference_loss'])}, over {each['num_positions']:,} words."
        )
        if ends := each.get("endings"):  # an older Etude counts none
            lines.append(
                f"{ends['num_ended']} of {ends['num_asked']} answers come to an end by themselves "
                f"within {ends['max_tokens']} words; as it was trained, {ends['reference_ended']} "
                "do."
            )
    return [*lines, *export["notes"]]
