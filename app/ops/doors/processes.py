"""`etude up`, `web`, `worker` and `answer`: what runs."""

import os
import sys
from importlib import import_module
from typing import Annotated, Literal

import typer

from app.ops.doors.shared import DataDir, settings_of, settings_with_servers
from app.training.loading import loading

_WEB = "app.main"


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on")] = None,
    data_dir: DataDir = None,
) -> None:
    """Start everything on this machine: database, broker, workers and the web."""
    from app.ops import up as supervisor

    supervisor.run(settings_of(data_dir, host=host, port=port))


def web() -> None:
    """Start only the web; DATABASE_URL and REDIS_URL name the servers."""
    from app.core import logs

    chosen = settings_with_servers()
    is_one_of_several = "ETUDE_WEB_NUMBER" in os.environ
    if chosen.web_processes > 1 and not is_one_of_several:
        from app.ops import up as supervisor

        supervisor.run_web(chosen)
        return
    with loading():
        from app.web import server

        import_module(_WEB)  # uvicorn would, with the collector in its way

    logs.configure(chosen.log_level, chosen.log_format)
    server.serve(is_one_of_several=is_one_of_several)


def worker(queue: Annotated[Literal["gpu", "cpu"], typer.Argument(help="gpu or cpu")]) -> None:
    """Start one worker; ETUDE_WORKER_ID names it and ETUDE_DEVICE is what it trains on."""
    from app.ops.up import worker_command

    settings_with_servers()
    os.environ.setdefault("ETUDE_WORKER_ID", f"{queue}-0@{os.uname().nodename}")
    os.environ.setdefault("ETUDE_DEVICE", "cuda:0" if queue == "gpu" else "cpu")
    command = worker_command(queue, os.environ["ETUDE_WORKER_ID"])
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def answer() -> None:
    """Start the process that answers questions; ETUDE_DEVICE names the GPUs that it may use."""
    from app.ops.up import accelerators, answer_command

    settings_with_servers()
    os.environ.setdefault("ETUDE_WORKER_ID", f"answer-0@{os.uname().nodename}")
    os.environ.setdefault("ETUDE_DEVICE", ",".join(accelerators()))
    os.execv(sys.executable, answer_command())  # noqa: S606 - no shell is wanted
