"""What no route under /v1 should have to think of: an address that the database cannot take."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.web.v1 import errors


class NulGuard:
    """Refuse an address with a NUL: PostgreSQL takes none in text, and no id has one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            refusal = errors.body(
                400, "The address contains a NUL character; leave it out.", code="invalid_value"
            )
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)
