"""`etude export`: a trained model in the form that another program opens."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.ops.doors.asking import ModelName
from app.ops.doors.shared import DataDir, Json, api_of, print_json


class Format(StrEnum):
    """What `--format` takes; as in app/core/models/exports.py, which takes long to load."""

    ADAPTER = "adapter"
    MERGED = "merged"
    GGUF = "gguf"
    GGUF_MERGED = "gguf-merged"
    OLLAMA = "ollama"
    VLLM = "vllm"


def export(
    adapter: ModelName,
    form: Annotated[Format, typer.Option("--format", help="What the other program opens")],
    out: Annotated[Path, typer.Option(help="The folder to make")],
    quantization: Annotated[
        str | None,
        typer.Option(help="q8_0, q4_k_m or f16, for GGUF and Ollama; the default is q8_0"),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take a trained model along: as an adapter, a merged model, GGUF, for Ollama or for vLLM.

    It is made on the server, opened there by a program that is not Etude, and compared with the
    adapter as it was trained. Ctrl-C only stops the waiting.
    """
    from app.ops import export_command
    from app.ops.terminal import sayer

    folder = out.expanduser().absolute()
    export_command.require_folder(folder)
    api, tell = api_of(data_dir), sayer(typer.echo, err=True)
    ended = export_command.watch(
        api, export_command.start(api, adapter, form.value, quantization), tell
    )
    if ended["status"] != "ready":
        raise SystemExit(f"etude: {ended['reason'] or 'It was cancelled.'}")
    export_command.fetch(api, ended, folder)
    if as_json:
        print_json(ended)
    else:
        say = sayer(typer.echo)
        for line in export_command.summary(ended, folder):
            say(line)
