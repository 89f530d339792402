"""`etude models`: starting models."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.ops.doors.shared import DataDir, Json, database_of, print_json, print_row

if TYPE_CHECKING:
    from app.base_models.states import Progress

models_app = typer.Typer(help="Starting models.", no_args_is_help=True)


@models_app.command("list")
def models_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the starting models and how their import stands."""
    with database_of(data_dir) as session:
        from app.base_models import registry as base_models
        from app.base_models import states

        models = base_models.list_models(session)
    if as_json:
        print_json(
            [
                {
                    "name": model.name,
                    "status": model.status.value,
                    "size_bytes": model.size_bytes,
                    "licence": model.licence,
                    "reason": model.reason,
                    "progress": _progress(states.progress(model)),
                }
                for model in models
            ]
        )
        return
    for model in models:
        size = f"{model.size_bytes / 1e6:,.0f} MB" if model.size_bytes else "-"
        going = states.progress(model)
        word = going.sentence if going else states.of(model).word
        cells = [model.name, word, size, model.licence or "-"]
        print_row(*cells, *([model.reason] if model.reason else []))


def _progress(going: "Progress | None") -> dict[str, object] | None:
    return asdict(going) if going else None


@models_app.command("add")
def models_add(
    path: Annotated[
        str, typer.Argument(help="A folder with safetensors, a GGUF file, or OWNER/NAME with --hub")
    ],
    name: Annotated[
        str, typer.Option(help="Name that people see; the default is the folder's")
    ] = "",
    hub: Annotated[
        bool, typer.Option("--hub", help="Download it from the Hugging Face Hub, where allowed")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Register a model for import; a worker checks and converts it."""
    with database_of(data_dir) as session:
        from app.base_models import registry as base_models

        if hub:
            source = {"kind": "hub", "repo": path}
        else:
            path = str(Path(path).expanduser().resolve())
            source = {"kind": "folder", "path": path}
        model = base_models.add(session, None, source, name or (path if hub else Path(path).stem))
        session.commit()
    if as_json:
        print_json({"name": model.name, "status": model.status.value})
    else:
        typer.echo(f"{model.name} waits for its import; `etude models list` shows how it stands.")


@models_app.command("cancel")
def models_cancel(
    name: Annotated[str, typer.Argument(help="The model's name, as `etude models list` shows it")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Stop a model's import that waits or goes on; `etude models list` then says so."""
    with database_of(data_dir) as session:
        from app.base_models import registry as base_models

        model = base_models.by_name(session, name)
        base_models.cancel_import(session, None, model)
        session.commit()
    if as_json:
        print_json({"name": model.name, "status": model.status.value})
    else:
        typer.echo(f"The import of {model.name} is cancelled.")


@models_app.command("delete")
def models_delete(
    name: Annotated[str, typer.Argument(help="The model's name, as `etude models list` shows it")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete a starting model that nothing needs; adapters made with it stay, and rest."""
    with database_of(data_dir) as session:
        from app.base_models import registry as base_models

        model = base_models.by_name(session, name)
        base_models.delete(session, None, model)
        session.commit()
    if as_json:
        print_json({"name": model.name, "status": "deleted"})
    else:
        typer.echo(f"{model.name} is deleted; a worker removes its files.")


@models_app.command("catalog")
def models_catalog(as_json: Json = False) -> None:
    """Show the models of the catalogue, which `etude models pack` and the page know by name."""
    from app.base_models import catalog

    found = catalog.entries()
    if as_json:
        print_json([entry.model_dump(exclude={"config"}) for entry in found])
        return
    for entry in found:
        asks = {True: "token", False: "-", None: "may ask for an agreement"}[entry.gated]
        print_row(entry.name, entry.size, entry.licence, asks, entry.use)


def _show(done_bytes: int, whole_bytes: int) -> None:
    """Say on a terminal how much has come; one line, written over."""
    if sys.stderr.isatty():
        end = "\n" if done_bytes == whole_bytes else ""
        said = f"\r{done_bytes / 1e9:,.2f} of {whole_bytes / 1e9:,.2f} GB are here{end}"
        typer.echo(said, err=True, nl=False)


@models_app.command("pack")
def models_pack(
    name: Annotated[
        str,
        typer.Argument(help="A model's name, as `etude models catalog` shows it, or OWNER/NAME"),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make; a second call goes on in it")],
    revision: Annotated[str, typer.Option(help="A commit; the default is the catalogue's")] = "",
    as_json: Json = False,
) -> None:
    """Fetch a model on a machine with internet into a folder that can be carried to the server.

    A model that is given only to people who accepted its licence needs ETUDE_HUB_TOKEN.
    """
    from app.base_models import catalog, hub, weight_files
    from app.core.errors import Invalid

    entry = catalog.by_name(name)
    wanted = revision or (entry.revision if entry else "")
    token = os.environ.get("ETUDE_HUB_TOKEN", "")
    folder = out.expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise Invalid(f"{folder} is a file; name a folder.")
    os.environ["HF_HUB_OFFLINE"] = "0"  # this one command is there to go out
    try:
        packed = hub.pack(name, wanted or None, folder, token, _show)
    except (hub.NotFetched, weight_files.NotNamed) as error:
        raise Invalid(str(error)) from None
    if as_json:
        print_json(
            {
                "name": name,
                "revision": packed.revision,
                "folder": str(packed.folder),
                "num_files": packed.num_files,
                "size_bytes": packed.size_bytes,
            }
        )
        return
    typer.echo(f"{packed.num_files} files, {packed.size_bytes / 1e9:,.1f} GB, are in {folder}.")
    typer.echo(
        "Carry the folder to the server. There an administrator adds it on the page Starting "
        "models,"
    )
    typer.echo(f"or runs: etude models add FOLDER --name {name}")
