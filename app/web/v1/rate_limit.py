"""So many requests a minute for each token, counted in the broker, where every web process sees it.

    SET etude:v1:<token> 0 EX 60 NX     the first request begins a minute
    INCR etude:v1:<token>               how many of it there are now
    PTTL etude:v1:<token>               how much of it is left

In one round trip, before the database is asked anything. A broker that is away limits nobody: it
only wakes workers otherwise, and no answer waits for it.
"""

import hashlib
import math
import time

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import broker, settings
from app.core.errors import TooMany
from app.people import auth
from app.web.v1 import errors

_WINDOW_SECONDS = 60
_TIMEOUT_SECONDS = 1.0
# A broker that did not answer is left alone for so long, so that no request waits for it.
_AWAY_SECONDS = 5.0
_MAX_CONNECTIONS = 8
_MAX_TOKEN_LENGTH = 200

_log = structlog.get_logger()


class RateLimit:
    """Let a token make so many requests a minute, and say with each answer how many are left."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._broker: Redis | None = None
        self._away_until = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = settings.get().v1_requests_per_minute
        token = _token(scope) if scope["type"] == "http" and limit else None
        counted = await self._count(token) if token is not None else None
        if counted is None:
            await self.app(scope, receive, send)
            return
        number, left_milliseconds = counted
        headers = {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(max(0, limit - number)),
            "x-ratelimit-reset-requests": _duration(left_milliseconds),
        }

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        answer: ASGIApp = self.app
        if number > limit:
            seconds = max(1, math.ceil(left_milliseconds / 1000))
            refusal = TooMany(
                f"This token may make {limit:,} requests a minute; go on in {seconds} s."
            )
            refusal.retry_seconds = seconds
            answer = errors.answer(refusal)
        await answer(scope, receive, send_with_headers)

    async def close(self) -> None:
        """Let go of the broker."""
        if self._broker is not None:
            await self._broker.aclose()
            self._broker = None

    async def _count(self, token: str) -> tuple[int, int] | None:
        """Count a request of a token.

        Returns:
            How many it has made in this minute, and how many milliseconds of that are left; None
            while the broker is away.
        """
        if time.monotonic() < self._away_until:
            return None
        # Of the token the broker learns nothing that opens anything.
        key = f"etude:v1:{hashlib.sha256(token.encode()).hexdigest()[:32]}"
        try:
            if self._broker is None:
                self._broker = _connect(settings.get().redis_url)
            pipeline = self._broker.pipeline(transaction=False)
            pipeline.set(key, 0, ex=_WINDOW_SECONDS, nx=True)
            pipeline.incr(key)
            pipeline.pttl(key)
            _, number, left = await pipeline.execute()
        except (RedisError, OSError, ValueError) as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            _log.warning("rate_limit.broker_away", error=str(error))
            return None
        return int(number), max(0, int(left))


def _token(scope: Scope) -> str | None:
    """Return what a request gives as its token, if it looks like one of ours."""
    scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
    token = secret.strip()
    is_ours = token.startswith(auth.TOKEN_PREFIX) and len(token) <= _MAX_TOKEN_LENGTH
    return token if scheme.lower() == "bearer" and is_ours else None


def _connect(url: str) -> Redis:
    pool = BlockingConnectionPool.from_url(
        broker.for_redis_py(url),
        max_connections=_MAX_CONNECTIONS,
        timeout=_TIMEOUT_SECONDS,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 1),  # the broker was started again meanwhile
    )
    return Redis.from_pool(pool)


def _duration(milliseconds: int) -> str:
    """Write a time as OpenAI does: `120ms`, `59.7s`, `1m0s`."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return (f"{minutes}m" if minutes else "") + f"{rest / 1000:g}s"
