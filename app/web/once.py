"""A secret that is shown once, on the page to which a form leads back.

The answer to the form sets a cookie for that page and leads there; the page shows what is in it and
takes it back. So a reloaded page sends no form again, and nothing of the secret is kept here. The
cookie is signed for who is signed in: nobody can put a link of theirs before an administrator.
"""

import base64
import hashlib
import hmac
import json
from binascii import Error as NotBase64

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from app.core import secrets, settings
from app.core.models import User
from app.people import auth
from app.web.compression import AS_IT_IS
from app.web.dependencies import cookie_of

_COOKIE = "etude_once"
_KEY_FILE = "shown-once-key"
# The browser follows at once; whoever closed it meanwhile makes another one.
_SECONDS = 60


def show_at(path: str, user: User, **what: str) -> Response:
    """Lead to a page that shows something this once."""
    response = RedirectResponse(path, status_code=303)
    said = base64.urlsafe_b64encode(json.dumps(what).encode()).decode()
    response.set_cookie(
        auth.cookie_name(_COOKIE),
        f"{_signed(path, user, said)}.{said}",
        max_age=_SECONDS,
        secure=settings.get().secure_cookies,
        httponly=True,
        samesite="strict",
    )
    return response


def taken(request: Request, user: User) -> dict[str, str]:
    """Return what this page is to show; empty: nothing is."""
    signature, _, said = cookie_of(request, _COOKIE).partition(".")
    if not hmac.compare_digest(signature, _signed(request.url.path, user, said)):
        return {}
    try:
        what: dict[str, str] = json.loads(base64.urlsafe_b64decode(said.encode()))
    except (NotBase64, ValueError):
        return {}
    return what


def forget(request: Request, response: Response) -> Response:
    """Take back what was sent for a page."""
    if cookie_of(request, _COOKIE):
        response.headers.update(AS_IT_IS)
        response.delete_cookie(
            auth.cookie_name(_COOKIE),
            secure=settings.get().secure_cookies,
            httponly=True,
            samesite="strict",
        )
    return response


def _signed(path: str, user: User, said: str) -> str:
    key = secrets.get(settings.get(), _KEY_FILE).encode()
    return hmac.digest(key, f"{user.id} {path} {said}".encode(), hashlib.sha256).hex()
