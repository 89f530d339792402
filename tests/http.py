"""HTTP as a program speaks it: one request a connection, with a time limit for this machine."""

import ssl
from functools import lru_cache, partial
from typing import Any

import httpx2

from tests import patience

_SECONDS = 20


def request(
    method: str, url: str, *, cookies: dict[str, str] | None = None, **options: Any
) -> httpx2.Response:
    limit = patience.seconds(_SECONDS)
    with httpx2.Client(verify=_certificates(), timeout=limit, cookies=cookies) as client:
        return client.request(method, url, **options)


get = partial(request, "GET")
head = partial(request, "HEAD")
options = partial(request, "OPTIONS")
post = partial(request, "POST")


@lru_cache
def _certificates() -> ssl.SSLContext:
    # Read from the disk for each client, they take longer than a request.
    return ssl.create_default_context()
