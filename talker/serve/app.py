"""The app of the server: its routes, thin over sessions, jobs and uploads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from talker.serve.catalogue import catalogue_routes
from talker.serve.errors import (
    ApiError,
    error_response,
    not_found,
    on_http_error,
    on_input_error,
    on_invalid_request,
    on_not_admitted,
)
from talker.serve.gate import Gate
from talker.serve.inputs import InputError
from talker.serve.session import Session
from talker.serve.sessions import NotAdmitted
from talker.serve.site import router as page
from talker.serve.speech import speech_routes
from talker.serve.stream import serve_stream
from talker.serve.studio import Studio
from talker.serve.videos import video_routes

EXPIRY_SECONDS = 60.0  # between searches for what has expired


def create_app(studio: Studio) -> Gate:
    """The app of a studio, behind its gate."""
    sessions = studio.sessions

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio.jobs.start()
        tasks = [asyncio.create_task(sessions.watch()), asyncio.create_task(_expire(studio))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(studio.jobs.close)
        await asyncio.to_thread(sessions.close)

    # The pages of FastAPI's documentation load scripts from other servers.
    app = FastAPI(title="talker", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(InputError, on_input_error)
    app.add_exception_handler(NotAdmitted, on_not_admitted)
    app.add_exception_handler(Exception, _on_failure)
    for routes in (catalogue_routes, speech_routes, video_routes):
        app.include_router(routes(studio))
    app.include_router(page)

    @app.websocket("/v1/realtime/video")
    async def realtime_video(websocket: WebSocket) -> None:
        await serve_stream(websocket, studio)

    @app.get("/v1/stream/{name}.mp4", response_class=StreamingResponse)
    async def stream(name: str, request: Request) -> StreamingResponse:
        """The stream of a session from its oldest kept keyframe on, as chunked fragmented MP4."""
        session = sessions.get(name, request.state.owner)
        if session is None:
            raise not_found("session")
        return StreamingResponse(
            _bytes_of(session), media_type="video/mp4", headers={"Cache-Control": "no-store"}
        )

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server works."""
        if sessions.failed:
            raise ApiError(503, "failed", "the generation failed: restart the server")
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether the server admits sessions when places are free."""
        if sessions.draining or sessions.failed:
            raise ApiError(503, "draining", "the server is shutting down or has failed")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(sessions.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Gate(app, studio.keys, studio.tickets, studio.hosts)


async def _bytes_of(session: Session) -> AsyncIterator[bytes]:
    """The init segment and the fragments. FragmentLost aborts the answer to a reader that is too slow."""
    start = session.oldest_keyframe()
    if start:
        yield session.init
    async for fragment in session.follow(start):
        yield fragment.data


async def _expire(studio: Studio) -> None:
    while True:
        await asyncio.to_thread(studio.store.expire)
        await asyncio.sleep(EXPIRY_SECONDS)


async def _on_failure(request: Request, error: Exception) -> Response:
    """Answer an error of the server. Starlette logs it."""
    return error_response(500, "server_error", "the request failed: see the log of the server")
