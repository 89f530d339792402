"""The `etude` command. What goes wrong ends in one sentence on standard error, never in a trace.

With `--json` a command prints one object or list on standard output and nothing else; its sentence
is then `{"error": …}`, on standard error as well.

This is the list of doors; what is behind each stands in app/ops/doors, a file a noun.
"""

import io
import os
import sys
from typing import Annotated

import typer

from app.core.errors import AppError
from app.ops.doors import asking, data, jobs, keeping, machines, models, people, processes, taking

app = typer.Typer(
    help="Teach a language model with your own data.",
    no_args_is_help=True,
    # Its traces print the values of variables, passwords among them.
    pretty_exceptions_enable=False,
)
for command in (
    *(processes.up, processes.web, processes.worker, processes.answer),
    *(keeping.migrate, keeping.backup, keeping.restore, keeping.doctor, keeping.upgrade_check),
    *(asking.ask, asking.evaluate, taking.export, machines.join),
):
    app.command()(command)
for name, commands in (
    ("job", jobs.job_app),
    ("user", people.user_app),
    ("token", people.token_app),
    ("models", models.models_app),
    ("data", data.data_app),
    ("storage", machines.storage_app),
):
    app.add_typer(commands, name=name)


def main() -> None:
    """Run the command line; the entry point of `etude`."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding cannot write is a question mark, and no trace.
            stream.reconfigure(errors="replace")
    options = sys.argv[1:]
    if "--json" not in options[: options.index("--") if "--" in options else None]:
        _run()
        return
    try:
        _run(is_human=False)
    except typer.TyperException as error:
        _refuse_as_json(error.format_message(), error.exit_code)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        _refuse_as_json(end.code.removeprefix("etude: "), 1)


def _run(*, is_human: bool = True) -> None:
    try:
        # Where a program listens, mistakes in options come to us, too.
        code = app(standalone_mode=is_human)
        sys.stdout.flush()  # not at the exit, where a reader who has gone would cost a trace
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (AppError, OSError) as error:
        raise SystemExit(f"etude: {_shown(error)}") from None
    except Exception as error:
        if not _is_from_database(error):
            raise
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise SystemExit(f"etude: the database refused: {said}") from None
    raise SystemExit(code)


def _shown(error: Exception) -> str:
    from app.ops import terminal

    return terminal.harmless(str(error))


def _is_from_database(error: Exception) -> bool:
    # Whoever has not loaded it cannot have met its errors.
    loaded = sys.modules.get("sqlalchemy.exc")
    return loaded is not None and isinstance(error, loaded.SQLAlchemyError)


def _refuse_as_json(sentence: str, code: int) -> None:
    from app.ops import terminal

    print(terminal.as_json({"error": sentence}), file=sys.stderr)
    raise SystemExit(code)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(f"etude {version('etude')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit"
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
