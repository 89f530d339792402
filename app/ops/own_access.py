"""How the command line comes to /v1: by ETUDE_URL and ETUDE_TOKEN, else as the operator.

Whoever may read the data directory can make tokens anyway. Their own is of a service account, is
made on first use, and lies beside the site's other secrets. It goes to no address but the one that
a running `etude up` of this data directory, or the settings of `etude web`, name.
"""

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.core.errors import Forbidden, Invalid
from app.ops.v1_client import Api, Unreachable

if TYPE_CHECKING:
    from app.core.settings import Settings

ACCOUNT = "command-line@etude.invalid"
TOKEN_FILE = "command-line-token"  # noqa: S105 - its name, and no token
_HOLDER = re.compile(r"etude up \(process (\d+)\)")


def connect(load: Callable[[], "Settings"]) -> Api:
    """Return `/v1` of the Etude that is meant.

    Args:
        load: Reads the settings, where they are needed.

    Raises:
        Invalid: what is named cannot be used.
        Unreachable: Etude is not running.
    """
    url, token = os.environ.get("ETUDE_URL", "").strip(), os.environ.get("ETUDE_TOKEN", "").strip()
    if not re.fullmatch(r"[!-~]*", token):
        raise Invalid("ETUDE_TOKEN is no token; `etude token create` prints one.")
    if url:
        url = _checked(url)
        if token:
            return Api(url, token)
        if url != own_address(load()):
            raise Invalid(
                "ETUDE_URL names another Etude, so ETUDE_TOKEN must be a token of an account there."
            )
    chosen = load()
    own = url or own_address(chosen)
    if own is None:
        raise Unreachable(
            f"Etude is not running here ({chosen.data_dir}): start it with `etude up`, or name "
            "another one with ETUDE_URL and ETUDE_TOKEN."
        )
    if token:
        return Api(own, token)
    return Api(own, _kept(chosen), renew=lambda refused: _new_token(chosen, refused))


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not re.fullmatch(r"[!-~]+", url) or parts.query or parts.fragment:
        raise Invalid("ETUDE_URL is no address; one is http://127.0.0.1:8000.")
    return url.rstrip("/").removesuffix("/v1")


def own_address(chosen: "Settings") -> str | None:
    """Return where the web of this data directory, or of these servers, listens."""
    noted = chosen.run_dir / "address"
    # What an `etude up` that is gone has noted may be anybody's by now.
    if _is_up(chosen) and noted.exists():
        return noted.read_text().strip()
    return chosen.local_address if chosen.database_url else None


def _is_up(chosen: "Settings") -> bool:
    try:
        holder = _HOLDER.match((chosen.run_dir / "lock").read_text())
    except OSError:
        return False
    return holder is not None and Path(f"/proc/{holder[1]}").exists()


def _file(chosen: "Settings") -> Path:
    return chosen.secrets_dir / TOKEN_FILE


def _kept(chosen: "Settings") -> str:
    try:
        return _file(chosen).read_text().strip()
    except FileNotFoundError:
        return ""  # it is refused, and a new one made


def _new_token(chosen: "Settings", refused: str) -> str:
    """Make a token, unless another command has just made one."""
    chosen.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(_file(chosen), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "r+") as kept:
        fcntl.flock(kept, fcntl.LOCK_EX)
        if (other := kept.read().strip()) not in ("", refused):
            return other
        token = _made(chosen)
        kept.seek(0)
        kept.truncate()
        kept.write(token)
    return token


def _made(chosen: "Settings") -> str:
    # Imported here: a second that the other times are spared.
    from sqlalchemy import select

    from app.core import db
    from app.core.models import Role, User
    from app.ops.embedded import servers
    from app.people import auth

    with servers.database(chosen, migrate=False), db.session() as session:
        user = session.scalars(select(User).where(User.email == ACCOUNT)).first()
        if user is None:
            user = auth.create_user(
                session, None, ACCOUNT, Role.LEAD, name="Command line", is_service=True
            )
        if user.disabled_at is not None:
            raise Forbidden(
                f"The command line's account {ACCOUNT} is closed. An administrator opens it on "
                "the People page; or set ETUDE_TOKEN to a token of your own."
            )
        token = auth.create_token(session, user, "command line")
        session.commit()
    return token
