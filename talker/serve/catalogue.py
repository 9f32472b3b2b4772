"""Routes of voices, portraits and models, and of tickets."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from talker.serve.errors import ApiError, not_found
from talker.serve.forms import form_fields, form_schema, is_file, save_file
from talker.serve.gate import LARGEST_UPLOADS
from talker.serve.identities import Library
from talker.serve.inputs import InputError
from talker.serve.keys import TICKET_SECONDS
from talker.serve.store import Upload
from talker.serve.studio import Studio
from talker.serve.uploads import checked_consent, open_upload

LONGEST_NAME = 100  # characters
# What a browser opens without headers of its own.
TICKET_PATHS = re.compile(r"/v1/(realtime/video|stream/[\w-]{1,64}\.mp4|videos/[\w-]{1,64}/content)")


class TicketRequest(BaseModel):
    """The path for which a ticket is wanted."""

    model_config = ConfigDict(extra="forbid")

    path: str


def catalogue_routes(studio: Studio) -> APIRouter:
    """The routes."""
    router, started = APIRouter(), int(time.time())

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model of this server."""
        model = {"id": studio.model, "object": "model", "created": started, "owned_by": "talker"}
        return {"object": "list", "data": [model]}

    @router.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """The model of a name."""
        if name != studio.model:
            raise not_found("model")
        return {"id": studio.model, "object": "model", "created": started, "owned_by": "talker"}

    @router.post("/v1/tickets")
    async def ticket(body: TicketRequest, request: Request) -> dict[str, Any]:
        """A ticket that stands for the key at one path, for a minute.

        A WebSocket sends it as the subprotocol `ticket.TICKET`, a URL as `?ticket=TICKET`.
        """
        if TICKET_PATHS.fullmatch(body.path) is None:
            raise ApiError(400, "invalid_request", "tickets are for live streams and contents only", "path")
        name = studio.tickets.issue(request.state.owner, body.path)
        return {"ticket": name, "expires_at": int(time.time()) + TICKET_SECONDS}

    slots = studio.upload_slots
    _add_library(router, "/v1/audio/voices", studio.voices, "audio.voice", "audio_sample", "sound", slots)
    _add_library(router, "/v1/portraits", studio.portraits, "portrait", "image", "image", slots)

    return router


def _add_library(
    router: APIRouter,
    path: str,
    library: Library[Any],
    name_of: str,
    file_field: str,
    kind: str,
    slots: asyncio.Semaphore,
) -> None:
    """Add the routes of voices or portraits.

    Args:
        router: where to add them.
        path: path of the list.
        library: the items.
        name_of: type of an item in answers.
        file_field: field of an upload.
        kind: "sound" or "image".
        slots: held while an upload is decoded and computed.
    """
    option = {"sound": "ref_text", "image": "crop"}[kind]
    allowed = {file_field, "name", "consent", option, *(("type",) if kind == "sound" else ())}

    def described(upload: Upload) -> dict[str, Any]:
        about: dict[str, Any] = {
            "id": upload.id,
            "object": name_of,
            "name": upload.name,
            "created_at": int(upload.created),
            "expires_at": int(upload.expires),
        }
        return about | ({"type": "audio_sample"} if kind == "sound" else {})

    @router.get(path)
    def items(request: Request) -> dict[str, Any]:
        """The shipped items, then the uploads of this key."""
        shipped = [{"id": name, "object": name_of, "name": name} for name in library.shipped]
        uploads = library.store.uploads(library.kind, request.state.owner)
        return {"object": "list", "data": [*shipped, *map(described, uploads)]}

    @router.post(
        path,
        openapi_extra=form_schema((file_field,), ("name", "consent", option), (file_field, "consent")),
    )
    async def add(request: Request) -> dict[str, Any]:
        """Upload an item. A consent of the person is required."""
        async with form_fields(request) as fields:
            for name in fields.keys() - allowed:
                raise InputError("unsupported_field", f"{name} is not supported: leave it out", name)
            texts = {name: fields.get(name) or "" for name in ("name", "consent", option)}
            for name, text in texts.items():
                if not isinstance(text, str) or len(text) > 1000:
                    raise InputError("invalid_request", f"{name} must be a text", name)
            if fields.get("type", "audio_sample") != "audio_sample":
                raise InputError("unsupported_field", "type must be audio_sample", "type")
            if kind == "image" and texts["crop"] not in ("", "face", "none"):
                raise InputError("invalid_request", "crop must be face or none", "crop")
            consent = checked_consent(texts["consent"], "voice" if kind == "sound" else "face")
            if not is_file(fields.get(file_field)):
                raise InputError("invalid_request", f"{file_field} must be a file", file_field)
            with library.store.incoming() as source, library.store.incoming() as target:
                await save_file(fields[file_field], source, LARGEST_UPLOADS[path], file_field)
                name = texts["name"].strip()[:LONGEST_NAME] or f"{library.kind} {int(time.time())}"
                async with slots:
                    await asyncio.to_thread(open_upload, source, target, kind, file_field)
                    upload = await asyncio.to_thread(
                        library.add, request.state.owner, name, consent, texts[option], target
                    )
        return described(upload)

    @router.get(f"{path}/{{name}}/content", response_class=FileResponse)
    def content(name: str, request: Request) -> FileResponse:
        """The picture or recording of an item."""
        try:
            file = library.file(name, request.state.owner)
        except InputError:
            raise not_found(library.kind) from None
        media_type = {"sound": "audio/wav", "image": "image/png"}[kind]
        return FileResponse(file, media_type=media_type, headers={"Cache-Control": "private, no-store"})

    @router.delete(f"{path}/{{name}}")
    def delete(name: str, request: Request) -> dict[str, Any]:
        """Delete an upload and its file."""
        upload = library.store.upload(library.kind, request.state.owner, name)
        if upload is None:
            raise not_found(library.kind)
        library.delete(upload)
        return {"id": upload.id, "object": f"{name_of}.deleted", "deleted": True}
