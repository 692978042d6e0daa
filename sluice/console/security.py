"""The console rejects requests of other web sites, and its pages load nothing from elsewhere.

The console listens on the loopback interface only, but every page in the browser of the same machine can send it a
request. A site that names it by a domain of its own (DNS rebinding) has another Host. A form of another site has no
token, and a script of another site cannot set the header of the API without a permission that it never gets.
"""

import functools
import http
import os
import secrets
import urllib.parse
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLIENT_HEADER = "x-sluice-client"
"""Header of the requests of programs that change something. Its value is the program's name."""

TOKEN_FIELD = "csrf"  # noqa: S105
"""Field of each form, with `csrf_token`."""

TOKEN_VARIABLE = "SLUICE_CONSOLE_TOKEN"  # noqa: S105
"""Environment variable with the token of the forms."""

_HOSTS = {"127.0.0.1", "localhost", "::1"}
_SAFE = {"GET", "HEAD"}

_HEADERS = {
    # Pico CSS has its icons as data: URLs.
    "content-security-policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@functools.cache
def csrf_token() -> str:
    """Return the token of the forms: that of the local stack, whose console is restarted, or one of this process."""
    return os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)


class OnlyOwnRequests:
    """Middleware that rejects requests of other sites and adds the headers.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(sent: Message) -> None:
            if sent["type"] == "http.response.start":
                headers = MutableHeaders(scope=sent)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
            await send(sent)

        if reason := _rejection(Headers(scope=scope), scope["method"]):
            await PlainTextResponse(reason, http.HTTPStatus.FORBIDDEN)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _rejection(headers: Headers, method: str) -> str | None:
    if _host(f"//{headers.get('host', '')}") not in _HOSTS:
        return "The host of the address must be 127.0.0.1 or localhost."
    origin = headers.get("origin")
    if method not in _SAFE and origin is not None and _host(origin) not in _HOSTS:
        return "The request comes from another site."
    return None


def _host(url: str) -> str | None:
    try:
        return urllib.parse.urlsplit(url).hostname
    except ValueError:
        return None


def is_own(headers: Headers, fields: Mapping[str, str]) -> bool:
    """Return whether a request that changes something is from a page of this process, or from a program."""
    token = fields.get(TOKEN_FIELD, "")
    return CLIENT_HEADER in headers or secrets.compare_digest(token.encode(), csrf_token().encode())
