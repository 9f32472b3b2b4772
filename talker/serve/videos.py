"""Routes of `/v1/videos`: videos that are generated as jobs, in the shape of OpenAI's API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from talker.clips.text import sentences_of
from talker.errors import UserError
from talker.serve.errors import ApiError, first_problem, not_found
from talker.serve.forms import form_fields, form_schema, id_of, is_file, save_file
from talker.serve.gate import LARGEST_UPLOADS
from talker.serve.inputs import LONGEST_TEXT, InputError
from talker.serve.jobs import Job, TooManyJobs, VideoRequest
from talker.serve.studio import Studio
from talker.serve.uploads import checked_consent, open_upload

FILE_FIELDS = {"input_reference": "any", "portrait": "image", "voice": "sound"}
TASK_NAMES = {"t2av": "text", "a2v": "a recording", "v2a": "a video"}
TEXT_FIELDS = ("prompt", "model", "size", "seed", "consent")
POLL_MILLISECONDS = 500
MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/jpeg"}


class VideoFields(BaseModel):
    """The fields of a request without its files."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field("", max_length=LONGEST_TEXT)
    model: str | None = None
    seconds: str | float | None = None
    size: str | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    consent: str | None = None
    voice: str | None = None
    portrait: str | None = None


def video_routes(studio: Studio) -> APIRouter:
    """The routes."""
    router, jobs = APIRouter(), studio.jobs
    size = f"{studio.system.resolution}x{studio.system.resolution}"

    def described(job: Job) -> dict[str, Any]:
        failed = job.status == "failed"
        return {
            "id": job.id,
            "object": "video",
            "model": studio.model,
            "status": job.status,
            "progress": job.progress,
            "created_at": int(job.created),
            "completed_at": None if job.completed is None else int(job.completed),
            "expires_at": int(job.expires) if job.status == "completed" else None,
            "prompt": job.request.prompt,
            "seconds": f"{job.seconds:g}",
            "size": size,
            "error": {"code": job.error_code, "message": job.error_message} if failed else None,
        }

    def answer(job: Job) -> JSONResponse:
        waits = job.status in ("queued", "in_progress")
        headers = {"openai-poll-after-ms": str(POLL_MILLISECONDS)} if waits else {}
        return JSONResponse(described(job), headers=headers)

    def job_of(name: str, request: Request) -> Job:
        job = jobs.get(request.state.owner, name)
        if job is None:
            raise not_found("video")
        return job

    @router.post("/v1/videos", openapi_extra=form_schema(tuple(FILE_FIELDS), tuple(TEXT_FIELDS), ()))
    async def create(request: Request) -> JSONResponse:
        """Add a job: a text, a recording or a video (`input_reference`) becomes a video."""
        with contextlib.ExitStack() as stack:
            async with form_fields(request) as fields:
                sources = {name: fields.pop(name) for name in FILE_FIELDS if is_file(fields.get(name))}
                _point_to_upload(fields)
                found = _checked(fields, studio, size)
                consent = checked_consent(found.consent, "face or voice") if sources else ""
                files, kinds, digests = {}, {}, {}
                for name, value in sources.items():
                    source = stack.enter_context(studio.store.incoming())
                    files[name] = target = stack.enter_context(studio.store.incoming())
                    await save_file(value, source, LARGEST_UPLOADS["/v1/videos"], name)
                    digests[name] = await asyncio.to_thread(_digest, source)
                    async with studio.upload_slots:
                        kinds[name] = await asyncio.to_thread(
                            open_upload, source, target, FILE_FIELDS[name], name
                        )
            made = VideoRequest(
                prompt=found.prompt,
                voice=found.voice,
                portrait=found.portrait,
                seed=found.seed,
                files=kinds,
                digests=digests,
                consent=consent,
            )
            await asyncio.to_thread(_check_request, made, request.state.owner, studio)
            key = request.headers.get("idempotency-key") or None
            retried = request.headers.get("x-stainless-retry-count", "0") not in ("", "0")
            try:
                job = await asyncio.to_thread(jobs.create, request.state.owner, made, files, key, retried)
            except TooManyJobs as error:
                raise ApiError(
                    429, "too_many_jobs", f"{error}: wait until one has ended", headers={"Retry-After": "30"}
                ) from error
            return answer(job)

    @router.get("/v1/videos")
    def videos(
        request: Request,
        limit: int = Query(20, ge=1, le=100),
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        """The jobs of this key, in the order of their creation."""
        try:
            page, more = jobs.page(request.state.owner, limit, after, order == "asc")
        except KeyError:
            raise not_found("video") from None
        ends = (page[0].id, page[-1].id) if page else (None, None)
        data = [described(job) for job in page]
        return {"object": "list", "data": data, "has_more": more, "first_id": ends[0], "last_id": ends[1]}

    @router.get("/v1/videos/{name}")
    def video(name: str, request: Request) -> JSONResponse:
        """A job. A failed one has status "failed" and an error."""
        return answer(job_of(name, request))

    @router.delete("/v1/videos/{name}")
    def delete(name: str, request: Request) -> dict[str, Any]:
        """Delete a job and its files, also while it runs."""
        if not jobs.delete(request.state.owner, name):
            raise not_found("video")
        return {"id": name, "object": "video.deleted", "deleted": True}

    @router.get("/v1/videos/{name}/content", response_class=FileResponse)
    def content(name: str, request: Request, variant: str = "video") -> FileResponse:
        """The video, or its first frame (`variant=thumbnail`)."""
        job = job_of(name, request)
        if variant not in MEDIA_TYPES:
            raise ApiError(400, "unsupported_field", "variant must be video or thumbnail", "variant")
        if job.status != "completed":
            raise ApiError(404, "not_ready", f"this video is {job.status}: wait for status completed")
        path = jobs.result(job, variant)
        return FileResponse(
            path,
            media_type=MEDIA_TYPES[variant],
            filename=f"{job.id}{path.suffix}",
            content_disposition_type="inline",
            headers={"Cache-Control": "no-store"},
        )

    return router


def _point_to_upload(fields: dict[str, Any]) -> None:
    """Replace references by names and ids: `input_reference` may name a portrait."""
    for name in ("voice", "portrait"):
        fields[name] = id_of(fields.get(name), name)
    reference = fields.pop("input_reference", None)
    if reference is not None:
        fields["portrait"] = id_of(reference, "input_reference")


def _checked(fields: dict[str, Any], studio: Studio, size: str) -> VideoFields:
    """The fields, if the model can honour them. Raises InputError."""
    try:
        found = VideoFields.model_validate(fields)
    except ValidationError as error:
        raise InputError(*first_problem(error.errors())) from None
    if found.model not in (None, studio.model):
        raise InputError("model_not_found", f"model must be {studio.model}", "model")
    if found.size not in (None, size):
        raise InputError("unsupported_field", f"size must be {size}: change it or leave it out", "size")
    if found.seconds is not None:
        raise InputError("unsupported_field", "the words decide the duration: leave seconds out", "seconds")
    return found


def _check_request(request: VideoRequest, owner: str, studio: Studio) -> None:
    """Raise InputError if the words, the voice or the portrait cannot be used, or the model cannot do it."""
    if request.task not in studio.system.generator.tasks:
        raise InputError(
            "unsupported_task",
            f"this model cannot generate from {TASK_NAMES[request.task]}",
            "input_reference",
        )
    if request.task != "a2v" and not request.prompt.strip():
        raise InputError("invalid_request", "prompt is missing: give the words", "prompt")
    has_voice = request.voice is not None or "voice" in request.files
    has_portrait = request.portrait is not None or "portrait" in request.files
    if has_voice and request.task == "a2v":
        raise InputError("unsupported_field", "a recording keeps its voice: leave voice out", "voice")
    if has_portrait and request.files.get("input_reference") in ("image", "video"):
        raise InputError(
            "unsupported_field", "input_reference shows the face: leave portrait out", "portrait"
        )
    try:
        if request.prompt.strip():
            sentences_of(studio.system, request.prompt)
    except UserError as error:
        raise InputError("invalid_text", str(error), "prompt") from error
    studio.voices.check(request.voice, owner)
    studio.portraits.check(request.portrait, owner)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
