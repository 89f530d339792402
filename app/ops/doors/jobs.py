"""`etude job`: train a model, and watch and steer training, through /v1."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.core.errors import AppError
from app.ops.doors.shared import DataDir, Json, api_of, print_json

if TYPE_CHECKING:
    from app.ops.v1_client import Api, JsonObject

job_app = typer.Typer(help="Train a model, and watch and steer training.", no_args_is_help=True)


JobName = Annotated[str, typer.Argument(help="A job: its id (ftjob-…), or the number of its page")]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch", help="Show the progress to the end; fails unless the training succeeds"
    ),
]


@job_app.command("create")
def job_create(
    file: Annotated[
        str, typer.Argument(help="What to learn from: a file, or the id of one in Etude (file-…)")
    ],
    model: Annotated[
        str, typer.Option(help="A starting model, or an adapter to train further, by name")
    ],
    preset: Annotated[
        Literal["quick", "balanced", "thorough"], typer.Option(help="How thorough to train")
    ] = "balanced",
    name: Annotated[str | None, typer.Option(help="Name that people see")] = None,
    suffix: Annotated[
        str | None, typer.Option(help="A word in the adapter's name in /v1 (ft:…)")
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Questions to test with; the default is a tenth of the file"
        ),
    ] = None,
    keep_privacy: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Learn from the personal details in the data, too; say why that is right",
        ),
    ] = None,
    privacy: Annotated[
        Literal["replace", "blank", "leave_out"] | None,
        typer.Option(
            help="Have personal details replaced by stand-ins or blanked out, or leave the rows "
            "with them out"
        ),
    ] = None,
    watch: Watch = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send a file and train a model with it."""
    from app.ops import job_command

    decision = job_command.privacy(keep_privacy, privacy)
    api = api_of(data_dir)
    job = job_command.create(
        api,
        file,
        model=model,
        preset=preset,
        name=name,
        suffix=suffix,
        validation=validation,
        privacy=decision,
        tell=lambda said: typer.echo(said, err=True),
    )
    if not as_json:
        typer.echo(f"Made job {job['id']}: {api.url}/jobs/{job['x_job_id']}")
    if watch:
        _watch(api, job, as_json)
    elif as_json:
        print_json(job)


@job_app.command("list")
def job_list(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first")] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show the jobs: id, state, step, model and name."""
    from itertools import islice

    from app.ops import job_command

    jobs = list(islice(api_of(data_dir).pages("/fine_tuning/jobs"), limit))
    if as_json:
        print_json(jobs)
        return
    for job in jobs:
        typer.echo(job_command.as_line(job))


@job_app.command("show")
def job_show(
    job: JobName, watch: Watch = False, data_dir: DataDir = None, as_json: Json = False
) -> None:
    """Say how a job is doing."""
    from app.ops import job_command, v1_client

    api = api_of(data_dir)
    found = v1_client.find_job(api, job)
    if watch:
        _watch(api, found, as_json)
    elif as_json:
        print_json(found)
    else:
        typer.echo(job_command.as_text(found, api.url))


@job_app.command("cancel")
def job_cancel(job: JobName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Stop a job for good."""
    _steer(job, "cancel", data_dir, as_json)


@job_app.command("pause")
def job_pause(job: JobName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a job wait at its last checkpoint, until it is resumed."""
    _steer(job, "pause", data_dir, as_json)


@job_app.command("resume")
def job_resume(job: JobName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Put a paused job back in the queue."""
    _steer(job, "resume", data_dir, as_json)


def _steer(job: str, wish: str, data_dir: Path | None, as_json: bool) -> None:
    from app.ops import job_command

    steered = job_command.steer(api_of(data_dir), job, wish)
    if as_json:
        print_json(steered)
    else:
        typer.echo(f"{steered['id']}: {job_command.state_words(steered)}")


def _watch(api: "Api", job: "JsonObject", as_json: bool) -> None:
    """Show a job to its end; standard output is for the program that reads JSON."""
    from app.ops import job_command

    try:
        ended = job_command.watch(api, job, sys.stderr if as_json else sys.stdout)
    except KeyboardInterrupt:
        typer.echo(f"The job goes on; `etude job cancel {job['id']}` stops it.", err=True)
        raise
    if as_json:
        print_json(ended)
    elif ended["status"] == "succeeded":
        typer.echo(job_command.as_text(ended, api.url))
    why = job_command.outcome(ended)
    if why is not None:
        raise AppError(why)
