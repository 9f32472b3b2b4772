"""The routes of the server, thin over sessions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from talker.serve.session import Session
from talker.serve.stream import Studio, serve_stream

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def create_app(studio: Studio) -> FastAPI:
    """The app of a studio."""
    sessions, started = studio.sessions, int(time.time())

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(sessions.watch())
        yield
        watch.cancel()
        await asyncio.to_thread(sessions.close)

    # The pages of FastAPI's documentation load scripts from other servers.
    app = FastAPI(title="talker", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(LocalOnly)
    app.add_exception_handler(HTTPException, _error_response)

    @app.websocket("/v1/realtime/video")
    async def realtime_video(websocket: WebSocket) -> None:
        await serve_stream(websocket, studio)

    @app.get("/v1/stream/{name}.mp4", response_class=StreamingResponse)
    async def stream(name: str) -> StreamingResponse:
        """The stream of a session from its oldest kept keyframe on, as chunked fragmented MP4."""
        session = sessions.get(name)
        if session is None:
            raise HTTPException(404, "there is no session of this id")
        return StreamingResponse(
            _bytes_of(session), media_type="video/mp4", headers={"Cache-Control": "no-store"}
        )

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model of this server."""
        model = {"id": studio.model, "object": "model", "created": started, "owned_by": "talker"}
        return {"object": "list", "data": [model]}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server works."""
        if sessions.failed:
            raise HTTPException(503, "the generation failed: restart the server")
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether the server admits sessions when rows are free."""
        if sessions.draining or sessions.failed:
            raise HTTPException(503, "the server is shutting down or has failed")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(sessions.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _bytes_of(session: Session) -> AsyncIterator[bytes]:
    """The init segment and the fragments. FragmentLost aborts the answer to a reader that is too slow."""
    start = session.oldest_keyframe()
    if start:
        yield session.init
    async for fragment in session.follow(start):
        yield fragment.data


async def _error_response(request: Request, error: Any) -> JSONResponse:
    """An error in the shape that clients of OpenAI's API read."""
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    body = {"message": error.detail, "type": kind, "code": str(error.status_code), "param": None}
    return JSONResponse({"error": body}, error.status_code, headers=error.headers)


class LocalOnly:
    """Refuses requests of web pages of other origins, and requests under a foreign host name.

    A page in the browser of this machine can open a WebSocket to any address, and its host name can be made
    to resolve to this machine.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app`: the app behind this middleware."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "lifespan" or _is_local(Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before `accept`: an answer of status 403
        else:
            error = HTTPException(403, "this Host or Origin is not allowed: use http://127.0.0.1")
            await (await _error_response(Request(scope), error))(scope, receive, send)


def _is_local(headers: Headers) -> bool:
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    if len(hosts) != 1 or len(origins) > 1:
        return False
    try:
        name = urlsplit(f"//{hosts[0]}").hostname
    except ValueError:
        return False
    return name in LOCAL_HOSTS and (not origins or origins[0] == f"http://{hosts[0]}")
