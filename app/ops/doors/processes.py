"""`etude up`, `web`, `worker` and `answer`: what runs."""

import os
import sys
from importlib import import_module
from typing import Annotated, Literal

import typer

from app.ops.doors.shared import DataDir, settings_of, settings_with_servers
from app.training.loading import loading

_WEB = "app.main"
# An earlier process of the same name may need a moment to end.
_NAME_SECONDS = 15.0


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on")] = None,
    data_dir: DataDir = None,
) -> None:
    """Start everything on this machine: database, broker, workers and the web."""
    from app.ops import up as supervisor

    chosen = settings_of(data_dir, host=host, port=port)
    _require_own()
    supervisor.run(chosen)


def web() -> None:
    """Start only the web; DATABASE_URL and REDIS_URL name the servers."""
    from app.core import logs, settings

    _require_own()
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
    settings.tell_unknown()
    server.serve(is_one_of_several=is_one_of_several)


def worker(queue: Annotated[Literal["gpu", "cpu"], typer.Argument(help="gpu or cpu")]) -> None:
    """Start one worker; ETUDE_DEVICE is what it trains on (cuda: the GPU of its own number)."""
    from app.ops.up import worker_command

    if queue == "cpu":
        _require_own()
    settings_with_servers()
    number = _bear_name(queue)
    if queue == "cpu":
        os.environ.setdefault("ETUDE_DEVICE", "cpu")
    elif os.environ.get("ETUDE_DEVICE", "cuda") == "cuda":
        os.environ["ETUDE_DEVICE"] = _gpu_of(number)
    command = worker_command(queue, os.environ["ETUDE_WORKER_ID"])
    os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted


def answer() -> None:
    """Start the process that answers questions; ETUDE_DEVICE names the GPUs that it may use."""
    from app.ops.up import accelerators, answer_command

    _require_own()
    settings_with_servers()
    _bear_name("answer")
    os.environ.setdefault("ETUDE_DEVICE", ",".join(accelerators()))
    os.execv(sys.executable, answer_command())  # noqa: S606 - no shell is wanted


def _require_own() -> None:
    """Refuse, on a machine that has joined, what belongs to the one that was joined.

    It would need more secrets than such a machine is told.
    """
    from app.core import settings

    told = settings.joined(settings.get().data_dir)
    if told is not None:
        raise SystemExit(
            f"etude: this machine has joined {told.address} as {told.machine}, and only trains: "
            "etude worker gpu. Pages, the reading of files and answers are where it has joined."
        )


def _bear_name(kind: str) -> int:
    """Take the name of ETUDE_WORKER_ID, or the first that is free, for what this process becomes.

    Returns:
        Its number; 0 of a name that somebody chose.
    """
    from app.core import settings, worker_names

    told = settings.joined(settings.get().data_dir)
    try:
        if chosen := os.environ.get("ETUDE_WORKER_ID"):
            worker_names.take(chosen, wait_seconds=_NAME_SECONDS)
            return 0
        machine = os.environ.get("ETUDE_MACHINE") or (told.machine if told else None)
        name = worker_names.take_next(kind, machine or os.uname().nodename)
    except worker_names.Taken as error:
        raise SystemExit(f"etude: {error}") from None
    os.environ["ETUDE_WORKER_ID"] = name.text
    if machine:  # the host name of a container goes with it
        os.environ.setdefault("ETUDE_WORKER_HOST", f"{machine}-{kind}-{name.number}")
    return name.number


def _gpu_of(number: int) -> str:
    from app.ops.up import accelerators

    devices = accelerators()
    if devices == ["cpu"]:
        raise SystemExit(
            "etude: no GPU is visible here. Install NVIDIA's driver and, for Docker, its container "
            "toolkit; or train on the processor: ETUDE_DEVICE=cpu, or COMPOSE_PROFILES=cpu in .env."
        )
    if number >= len(devices):
        raise SystemExit(
            f"etude: this machine has {len(devices)} GPUs, and each has a worker already."
        )
    return devices[number]
