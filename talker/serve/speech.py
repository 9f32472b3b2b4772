"""`POST /v1/audio/speech`: speech without video, while it is generated."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any, Literal

import av
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from talker.clips.say import Utterance
from talker.errors import UserError
from talker.media.encoders import AudioEncoder
from talker.media.files import SOUND_FILES
from talker.serve.cancellable import Cancellable
from talker.serve.errors import ApiError
from talker.serve.forms import id_of
from talker.serve.inputs import InputError
from talker.serve.studio import Studio
from talker.stages import Cancelled, Channel

LONGEST_INPUT = 4096  # characters, as in OpenAI's API
FORMATS = {
    "mp3": (*SOUND_FILES[".mp3"], "audio/mpeg"),
    "opus": (*SOUND_FILES[".opus"], "audio/ogg"),
    "flac": (*SOUND_FILES[".flac"], "audio/flac"),
    "wav": (*SOUND_FILES[".wav"], "audio/wav"),
    "pcm": ("s16le", "pcm_s16le", "audio/pcm;rate=24000"),
}


class SpeechRequest(BaseModel):
    """The body. A field that the model cannot honour is an error that names it."""

    model_config = ConfigDict(extra="forbid")

    input: str = Field(min_length=1, max_length=LONGEST_INPUT)
    model: str | None = None
    voice: str | dict[str, str] | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: Annotated[float, Field(ge=1, le=1)] = 1.0
    instructions: Literal[""] | None = None
    seed: int = Field(0, ge=0, lt=2**63)


class _Sink:
    """A file without `seek`, so that the containers are written for streams."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        data = bytes(self._written)
        self._written.clear()
        return data


def encoded(clip: Utterance, generate: Cancellable, kind: str) -> Iterator[bytes]:
    """Generate a clip and yield its sound in a format of FORMATS.

    Raises:
        Cancelled: `generate` was cancelled.
    """
    container_format, codec, _ = FORMATS[kind]
    sink = _Sink()
    with av.open(sink, "w", format=container_format, options={"flush_packets": "1"}) as container:
        container.metadata.update(clip.tags)
        encoder = AudioEncoder(container, codec)
        for chunk in clip.take().chunks(generate):
            for packet in encoder.encode(chunk.pcm):
                container.mux_one(packet)
            if data := sink.take():
                yield data
        if generate.cancelled:
            raise Cancelled
        for packet in encoder.stream.encode(None):
            container.mux_one(packet)
    yield sink.take()


def speech_routes(studio: Studio) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.post("/v1/audio/speech", response_class=StreamingResponse)
    async def speech(body: SpeechRequest, request: Request) -> StreamingResponse:
        """Speech of a text, in chunks while it is generated."""
        if body.model not in (None, studio.model):
            raise ApiError(400, "model_not_found", f"model must be {studio.model}", "model")
        clip = await asyncio.to_thread(_plan, studio, body, request.state.owner)
        run = Cancellable(studio.sessions.generate)
        sounds = _in_thread(
            lambda: encoded(clip, run, body.response_format), run.cancel, studio.sessions.place_for_speech()
        )
        parts = _events(sounds, clip, studio) if body.stream_format == "sse" else sounds
        first = await anext(parts)  # an error before it has a status of its own
        media_type = "text/event-stream" if body.stream_format == "sse" else FORMATS[body.response_format][2]
        return StreamingResponse(
            _joined(first, parts), media_type=media_type, headers={"Cache-Control": "no-store"}
        )

    return router


def _plan(studio: Studio, body: SpeechRequest, owner: str) -> Utterance:
    voice = studio.voices.get(id_of(body.voice, "voice"), owner)
    try:
        return studio.talker.say(body.input, voice, seed=body.seed, audio_only=True)
    except UserError as error:
        raise InputError("invalid_text", str(error), "input") from error


async def _in_thread(
    produce: Callable[[], Iterator[bytes]], cancel: Callable[[], None], place: AbstractContextManager[None]
) -> AsyncGenerator[bytes, None]:
    """Yield what `produce` yields in a thread, which holds `place`.

    Nothing waits for the reader: speech is short, and its place is free as soon as it is generated.
    """
    channel: Channel[bytes] = Channel(10**6)
    error: list[BaseException] = []
    place.__enter__()

    def work() -> None:
        try:
            for item in produce():
                channel.put(item)
        except BaseException as raised:
            error.append(raised)
        finally:
            place.__exit__(None, None, None)
            channel.close()

    thread = threading.Thread(target=work, name="speech", daemon=True)
    thread.start()
    try:
        items = iter(channel)
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item
        if error:
            raise error[0]
    finally:
        cancel()
        channel.cancel()


async def _events(
    sounds: AsyncGenerator[bytes, None], clip: Utterance, studio: Studio
) -> AsyncGenerator[bytes]:
    """Server-sent events of pieces of sound."""
    async with contextlib.aclosing(sounds):
        async for sound in sounds:
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})
    tokenizer = studio.system.generator.tokenizer
    tokens = sum(len(tokenizer.tokens(sentence)) for sentence in clip.sentences)
    usage = {"input_tokens": tokens, "output_tokens": 0, "total_tokens": tokens}
    yield _event({"type": "speech.audio.done", "usage": usage})


def _event(fields: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()


async def _joined(first: bytes, parts: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(parts):
        yield first
        async for part in parts:
            yield part
