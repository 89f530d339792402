"""Requests that no page of ours makes: every route, with values that are hardly ever meant.

The forms are read from the routes here and are never served. The same seed gives the same requests.
"""

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from fastapi.routing import APIRoute
from pydantic import BaseModel

from app.main import PAGE_ROUTERS

VALUES = (
    *("", " ", "0", "1", "2", "-1", "007", "1.5", "1e400", "NaN", "inf", "2147483648"),
    *("9" * 19, "9" * 400, "true", "null", "[]", "{}", "on", "test", "chat", "all", "done"),
    *(
        "\0",
        "a\0b",
        "%00",
        "\r\nSet-Cookie: a=b",
        "\x1b[2J",
        "\u202eabc",
        "ü" * 50,
        "𝔘𝔫𝔦",
        "e\u0301",
    ),
    *(
        "\ufeff",
        "\uffff",
        "٣",
        "½",
        "' OR 1=1 --",
        '";--',
        "../../etc/passwd",
        "/dev/zero",
        "C:\\x",
    ),
    *("<probe-a>", '"><probe-b>', "javascript:probe()", "http://127.0.0.1:1/", "//example.org"),
    *(
        "{{ 7043 * 9173 }}",
        "%s%n%d",
        "${x}",
        "(" * 200,
        "a" * 20_000,
        "=1+1",
        "a,b\n",
        "2026-02-31",
    ),
    *("ana@house.example", "@", "clinic", "quick", "base", "tuned", "ft:x", "file-1", "member"),
)
# A page that waits for a process that does not run here says so (503).
IS_WELL = (*range(200, 500), 503)


@dataclass(frozen=True)
class Case:
    """One request."""

    method: str
    route: str
    path: str
    form: list[tuple[str, str]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return urlencode(self.form, errors="surrogatepass").encode()


def routes() -> list[APIRoute]:
    """Return every page's route but the one that does not end."""
    found = [route for router in PAGE_ROUTERS for route in router.routes]
    return [
        route
        for route in found
        if isinstance(route, APIRoute) and not route.path.endswith("/events")
    ]


def form_of(route: APIRoute) -> type[BaseModel] | None:
    """Return the form that a route takes."""
    for parameter in route.dependant.body_params:
        kind = parameter.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def cases(number: int, seed: int) -> Iterator[Case]:
    """Yield so many requests, each route in its turn."""
    # An order, no secret.
    chance = random.Random(seed)
    known = routes()
    for turn in range(number):
        yield _case(chance, known[turn % len(known)])


def _case(chance: random.Random, route: APIRoute) -> Case:
    path = re.sub(r"\{[^}]+\}", lambda _: quote(_word(chance), safe=""), route.path)
    names = [each.alias for each in route.dependant.query_params]
    asked = [(name, _value(chance)) for name in names if chance.random() < 0.6]
    if asked:
        path += "?" + urlencode(asked)
    form = form_of(route)
    return Case(
        method=sorted(route.methods or ())[0],
        route=route.path,
        path=path,
        form=_filled(chance, form) if form else [],
    )


def _filled(chance: random.Random, form: type[BaseModel]) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    for name, about in form.model_fields.items():
        is_list = "list" in str(about.annotation)
        for _ in range(chance.choice((0, 1, 1, 3)) if is_list else chance.choice((0, 1, 1, 1, 2))):
            said.append((about.alias or name, _value(chance)))
    if chance.random() < 0.1:
        said.append((_noise(chance), _value(chance)))
    return said


def _word(chance: random.Random) -> str:
    """Return a piece of an address, mostly the number of a row that is there."""
    return chance.choice("12") if chance.random() < 0.6 else _value(chance)[:500] or "0"


def _value(chance: random.Random) -> str:
    return chance.choice(VALUES) if chance.random() < 0.9 else _noise(chance)


def _noise(chance: random.Random) -> str:
    letters = string.printable + "äß€漢字\0\u200b\u2028"
    return "".join(chance.choices(letters, k=chance.randrange(1, 40)))


def json_value(chance: random.Random, depth: int = 0) -> Any:
    """Return any JSON."""
    kind = chance.randrange(8 if depth < 3 else 5)
    simple: list[Any] = [None, chance.random() < 0.5, chance.choice((0, -1, 2**63, 1e308, 0.1))]
    if kind < 5:
        return chance.choice([*simple, _value(chance), _value(chance)])
    if kind == 5:
        return [json_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {_value(chance)[:50]: json_value(chance, depth + 1) for _ in range(chance.randrange(4))}
