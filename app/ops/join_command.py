"""Join another Etude: ask it for what this machine needs, keep that, and see whether it works."""

import ipaddress
import json
import ssl
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

import redis
from pydantic import ValidationError

from app.core import db, secrets, settings, shared_storage
from app.machines.joining import Told
from app.ops.embedded import folder
from app.ops.embedded.servers import redis_client

_SECONDS = 30
_MOST_BYTES = 1024 * 1024


def join(
    chosen: settings.Settings, address: str, token: str, authority: Path | None = None
) -> Iterator[str]:
    """Join, and say what became of it, a sentence at a time.

    Args:
        chosen: This machine's settings.
        address: Of the Etude to join.
        token: As an administrator got it there.
        authority: A certificate to trust beside the system's.

    Raises:
        SystemExit: it is refused, or what this machine was told does not work; one sentence.
    """
    address = _checked(address)
    before = settings.joined(chosen.data_dir)
    if before is not None:
        raise SystemExit(
            f"etude: this machine has joined {before.address} as {before.machine} already. To join "
            f"anew, remove {_file(chosen)} first."
        )
    if (chosen.data_dir / "postgres").exists():
        raise SystemExit(
            f"etude: {chosen.data_dir} holds an Etude of its own; choose another --data-dir."
        )
    folder.prepare(chosen, folder.OF_PARTS)
    told = _ask(address, token, authority)
    for name, value in told.secrets.items():
        secrets.keep(chosen, name, value)
    kept = settings.Joined(address=address, machine=told.machine, settings=told.settings)
    secrets.keep(chosen, settings.JOINED_FILE, kept.model_dump_json(indent=2))
    yield f"This machine is {told.machine} of {address} now; it keeps that in {_file(chosen)}."
    settings.get.cache_clear()
    _try_out(settings.load(data_dir=chosen.data_dir))
    yield "The database, the broker and the shared storage answer."
    yield "Start what trains, once for each GPU: etude worker gpu"


def _try_out(chosen: settings.Settings) -> None:
    """Ask each server that this machine was told of.

    Raises:
        SystemExit: one does not answer.
    """
    mend = f"Mend the way there, or the address in {_file(chosen)}; then start etude worker gpu."
    try:
        db.check_server(chosen.database_url)
    except SystemExit as error:
        raise SystemExit(f"etude: {error}. {mend}") from None
    try:
        with redis_client(chosen.redis_url, timeout_seconds=5) as client:
            client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        raise SystemExit(f"etude: the broker does not answer: {error}. {mend}") from None
    shared = shared_storage.of(chosen)
    assert shared is not None  # else nobody could have joined
    try:
        shared.old("models", 0)
    except shared_storage.StorageAway as error:
        raise SystemExit(f"etude: {error.message} {mend}") from None


def _checked(address: str) -> str:
    """Return an address without what follows the host.

    Raises:
        SystemExit: the token, and the answer's passwords, would travel in the clear.
    """
    parts = urlsplit(address if "://" in address else f"https://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise SystemExit("etude: name the site as https://etude.example.org.")
    if parts.scheme == "http" and not _is_here(parts.hostname):
        raise SystemExit("etude: a machine joins over https alone: it is told passwords.")
    return f"{parts.scheme}://{parts.netloc}"


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


class _NoRedirect(HTTPRedirectHandler):
    """The token goes where it was meant to go, and nowhere else."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def _ask(address: str, token: str, authority: Path | None) -> Told:
    trusted = ssl.create_default_context()
    if authority is not None:
        try:
            trusted.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise SystemExit(f"etude: {authority} is no certificate: {error}.") from None
    body = json.dumps({"token": token, "version": version("etude")}).encode()
    # No page of another site sends this.
    headers = {"Content-Type": "application/json", "Accept": "text/plain"}
    headers |= {"Sec-Fetch-Site": "none"}
    request = Request(f"{address}/machines/join", body, headers)  # noqa: S310 - checked before
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trusted), _NoRedirect)
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            return Told.model_validate_json(answer.read(_MOST_BYTES))
    except HTTPError as error:
        said = error.read(2000).decode(errors="replace").strip() or error.reason
        raise SystemExit(f"etude: {said}") from None
    except ssl.SSLCertVerificationError as error:
        raise SystemExit(f"etude: {_untrusted(address, error)}") from None
    except URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise SystemExit(f"etude: {_untrusted(address, error.reason)}") from None
        raise SystemExit(f"etude: {address} does not answer: {error.reason}.") from None
    except (OSError, ValidationError) as error:
        raise SystemExit(f"etude: {address} does not answer as Etude does: {error}.") from None


def _untrusted(address: str, error: ssl.SSLCertVerificationError) -> str:
    return (
        f"the certificate of {address} is not trusted here ({error.verify_message}); with an "
        "authority of the house, name its certificate: --ca FILE."
    )


def _file(chosen: settings.Settings) -> Path:
    return chosen.secrets_dir / settings.JOINED_FILE
