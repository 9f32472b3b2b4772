"""What every request passes first: the checks of its Host, Origin and key, and of the size of its body."""

from __future__ import annotations

import logging
import time
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from talker.serve.errors import ApiError, error_response
from talker.serve.events import log_event
from talker.serve.keys import NO_KEYS_OWNER, AccessTickets, Keys

log = logging.getLogger(__name__)

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
PROTOCOL = "talker"  # subprotocol of the WebSocket
PUBLIC = ("/", "/healthz", "/readyz", "/openapi.json")  # need no key
PUBLIC_FOLDER = "/page/"
QUIET = ("/healthz", "/readyz", "/metrics")  # not logged
MEGABYTE = 2**20
LARGEST_BODY = 2 * MEGABYTE
LARGEST_UPLOADS = {
    "/v1/portraits": 32 * MEGABYTE,
    "/v1/audio/voices": 32 * MEGABYTE,
    "/v1/videos": 256 * MEGABYTE,
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "worker-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}


class Gate:
    """Refuses requests of web pages of other origins, under foreign host names, and without a valid key.

    A page in the browser of this machine can open a WebSocket to any address, and its host name can be made
    to resolve to this machine. The owner of an accepted request is `state.owner`.
    """

    def __init__(self, app: ASGIApp, keys: Keys, tickets: AccessTickets, hosts: tuple[str, ...] = ()) -> None:
        """`app`: what is behind the gate; `hosts`: host names of this server besides the local ones."""
        self._app, self._keys, self._tickets, self._hosts = app, keys, tickets, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers, began, status, complete = Headers(scope=scope), time.perf_counter(), 0, False

        async def answer(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            elif message["type"] == "http.response.body":
                complete = not message.get("more_body", False)
            elif message["type"] == "websocket.accept" and PROTOCOL in scope["subprotocols"]:
                message["subprotocol"] = PROTOCOL
            await send(message)

        try:
            self._check(scope, headers)
            limit = LARGEST_UPLOADS.get(scope["path"], LARGEST_BODY)
            await self._app(scope, _limited(receive, limit), answer)
        except ApiError as error:
            await self._refuse(error, scope, receive, answer)
        except Exception:
            if not complete:  # uvicorn logs the error and closes the connection
                raise
            log.exception("a request failed")
        finally:
            if scope["type"] == "http" and scope["path"] not in QUIET:
                milliseconds = round(1000 * (time.perf_counter() - began))
                owner = scope.get("state", {}).get("owner")
                log_event(
                    "request",
                    method=scope["method"],
                    route=getattr(scope.get("route"), "path", None),
                    status=status,
                    owner=owner,
                    milliseconds=milliseconds,
                )

    def _check(self, scope: Scope, headers: Headers) -> None:
        if not self._is_own(scope, headers):
            raise ApiError(
                403, "forbidden_origin", "this Host or Origin is not allowed: start with --allow-host NAME"
            )
        owner = self._owner(scope, headers)
        if owner is None and not _is_public(scope["path"]):
            challenge = {"WWW-Authenticate": "Bearer"}
            raise ApiError(
                401, "invalid_api_key", "send a valid key: Authorization: Bearer KEY", headers=challenge
            )
        scope.setdefault("state", {})["owner"] = owner
        length = headers.get("content-length", "0")
        limit = LARGEST_UPLOADS.get(scope["path"], LARGEST_BODY)
        if not length.isascii() or not length.isdigit() or int(length) > limit:
            raise _too_large(limit)

    def _is_own(self, scope: Scope, headers: Headers) -> bool:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or len(origins) > 1:
            return False
        try:
            name = urlsplit(f"//{hosts[0]}").hostname
        except ValueError:
            return False
        # The address itself cannot be made to resolve to another machine.
        local = name in LOCAL_HOSTS or name == (scope.get("server") or ("",))[0]
        if not local and name not in self._hosts:
            return False
        schemes = ("http",) if local else ("http", "https")  # TLS ends at a proxy
        return not origins or origins[0] in [f"{scheme}://{hosts[0]}" for scheme in schemes]

    def _owner(self, scope: Scope, headers: Headers) -> str | None:
        if not self._keys:
            return NO_KEYS_OWNER
        path = scope["path"]
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._keys.owner(key.strip())
        for protocol in scope.get("subprotocols", []):
            kind, _, secret = protocol.partition(".")
            if kind == "key":
                return self._keys.owner(secret)
            if kind == "ticket":
                return self._tickets.owner(secret, path)
        if scope["type"] == "http":
            ticket = parse_qs(scope["query_string"].decode("latin-1")).get("ticket", [""])[0]
            return self._tickets.owner(ticket, path) if ticket else None
        return None

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before `accept`: an answer of status 403
            return
        answer = error_response(error.status_code, error.code, error.detail, headers=error.headers)
        await answer(scope, receive, send)


def _is_public(path: str) -> bool:
    return path in PUBLIC or path.startswith(PUBLIC_FOLDER)


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises ApiError when a body becomes larger than `limit` bytes."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limit:
                raise _too_large(limit)
        return message

    return limited


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "too_large", f"the body is larger than {limit // MEGABYTE} MB: send a smaller file")
