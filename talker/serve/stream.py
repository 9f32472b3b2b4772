"""`WS /v1/realtime/video`: text or sound in, a live stream out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable

from fastapi import WebSocket
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from talker.clips.animate import LiveAnimation, lookahead_seconds
from talker.clips.say import LiveUtterance
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.serve.captions import milliseconds
from talker.serve.inputs import InputError, SoundInput, TextInput
from talker.serve.protocol import (
    AudioAppend,
    AudioEnd,
    CaptionEvent,
    ChunkMetadata,
    ClientMessage,
    ErrorEvent,
    Interrupt,
    Playback,
    SessionDone,
    SessionInterrupted,
    SessionPing,
    SessionPong,
    SessionResume,
    SessionStart,
    SessionStop,
    SpeechEnded,
    SpeechStarted,
    TextAppend,
    TextCommit,
    TextEnd,
    VideoConfig,
    VideoStart,
    WarningEvent,
    parsed,
)
from talker.serve.session import Fragment, FragmentLost, LiveClip, Session
from talker.serve.sessions import NotAdmitted
from talker.serve.studio import Studio

NORMAL, POLICY, TRY_AGAIN_LATER = 1000, 1008, 1013  # codes that close a WebSocket
SLOW = "the server cannot keep up, so the playback stalls: wait until more of the stream is buffered"
CLOSING = 1.0  # seconds that a client has to close the connection after `session.done`
ENDINGS = {
    "slow_reader": "no playback position was reported for too long: send playback once a second",
    "idle": "nothing was sent for too long: send text or sound, or session.stop",
    "draining": "the server is shutting down: start another session later",
    "too_long": "the session has reached the longest duration: start another",
}


class Refused(Exception):  # noqa: N818 - not an error of the server
    """The connection cannot be used: it is closed after an error event."""

    def __init__(self, code: str, message: str, close: int = POLICY, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.event = ErrorEvent(code=code, message=message, retry_after=retry_after)
        self.close = close
        self.reason = code if retry_after is None else f"{code}; Retry-After: {retry_after}"


class Connection:
    """A WebSocket on which several tasks send events."""

    def __init__(self, websocket: WebSocket, patience: float) -> None:
        """`websocket`: an accepted one; `patience`: seconds after which a blocked client counts as gone."""
        self.websocket, self._patience = websocket, patience
        self._lock = asyncio.Lock()

    async def receive(self) -> ClientMessage:
        """Return the next valid message, and answer others by error events.

        Raises:
            WebSocketDisconnect: the client has disconnected.
        """
        while True:
            received = await self.websocket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received.get("code", NORMAL))
            try:
                if (text := received.get("text")) is None:
                    raise InputError("invalid_message", "the message is binary: send JSON text")
                return parsed(text)
            except InputError as error:
                await self.send_error(error)

    async def send(self, event: BaseModel, data: bytes = b"") -> None:
        """Send an event, and directly after it a binary message, unless `data` is empty.

        Raises:
            WebSocketDisconnect: the client has disconnected, or does not read.
        """
        try:
            async with asyncio.timeout(self._patience), self._lock:
                await self.websocket.send_text(event.model_dump_json())
                if data:
                    await self.websocket.send_bytes(data)
        except TimeoutError:
            raise WebSocketDisconnect from None

    async def send_error(self, error: InputError) -> None:
        """Send the error event of an input."""
        await self.send(ErrorEvent(code=error.code, message=str(error)))


async def serve_stream(websocket: WebSocket, studio: Studio) -> None:
    """Serve one connection: start or continue a session, and send its stream until one of both ends.

    If the client disconnects without `session.stop`, the session waits for it, see `Limits.hold`.
    """
    owner: str = websocket.state.owner
    await websocket.accept()
    connection = Connection(websocket, studio.sessions.limits.slow_reader)
    with contextlib.suppress(WebSocketDisconnect):
        try:
            message = await _first_message(connection, studio.sessions.limits.start)
            session, index = await _opened(message, studio, owner)
            await _run(connection, session, index, studio)
        except Refused as refused:
            await connection.send(refused.event)
            await websocket.close(refused.close, refused.reason)


async def _first_message(connection: Connection, seconds: float) -> SessionStart | SessionResume:
    """The message that opens the session. Others are answered meanwhile. Raises Refused after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await connection.receive()
                if isinstance(message, SessionStart | SessionResume):
                    return message
                if isinstance(message, SessionPing):
                    await connection.send(SessionPong())
                else:
                    await connection.send_error(
                        InputError(
                            "unexpected_message", f"{message.type} came before session.start: send that first"
                        )
                    )
    except TimeoutError:
        raise Refused("start_timeout", f"send session.start within {seconds:g} s") from None


async def _opened(message: SessionStart | SessionResume, studio: Studio, owner: str) -> tuple[Session, int]:
    """The session that a message starts or continues, and the number of the first fragment to send.

    Raises:
        Refused: there is no such session, none can start now, or the model cannot do it.
    """
    if isinstance(message, SessionResume):
        session = studio.sessions.get(message.request_id, owner)
        if session is None:
            raise Refused("not_found", "there is no session of this request_id: start another")
        if message.transport_chunk_index > session.count:
            raise Refused("chunk_lost", f"this session has only {session.count} fragments so far")
        return session, message.transport_chunk_index
    try:
        studio.sessions.check_admission()  # before the work of preparing a clip
        clip, feed = await asyncio.to_thread(_clip, message, studio, owner)
        return await asyncio.to_thread(studio.sessions.start, clip, feed, owner), 0
    except NotAdmitted as error:
        raise Refused(error.code, str(error), TRY_AGAIN_LATER, error.retry_after) from None
    except InputError as error:
        raise Refused(error.code, str(error)) from None


def _clip(message: SessionStart, studio: Studio, owner: str) -> tuple[LiveClip, TextInput | SoundInput]:
    """The clip of a new session, and its input.

    Raises:
        InputError: a field has a value that is not supported, or the model cannot do the task.
    """
    system = studio.system
    supported = {
        "model": studio.model,
        "width": system.resolution,
        "height": system.resolution,
        "fps": FRAME_RATE,
    }
    for name, value in supported.items():
        if getattr(message, name) not in (None, value):
            raise InputError("unsupported_field", f"{name} must be {value}: change it or leave it out")
    task = "t2av" if message.input == "text" else "a2v"
    if task not in system.generator.tasks:
        raise InputError("unsupported_task", f"this model cannot generate video from {message.input}")
    reference = message.image_reference
    face = message.portrait if reference is None else reference.file_id
    if message.input == "audio":
        if message.prompt or message.voice:
            raise InputError("unsupported_field", "prompt and voice are for text: leave them out")
        sound, portrait = SoundInput(), studio.portraits.get(face, owner)
        try:
            return LiveAnimation(system, sound.channel, portrait, None, message.seed), sound
        except UserError as error:
            raise InputError("unsupported_task", str(error)) from error
    text, portrait = TextInput(system), studio.portraits.get(face, owner)
    if message.prompt:
        text.whole(message.prompt)
    voice = studio.voices.get(message.voice, owner)
    return LiveUtterance(system, text.channel, voice, portrait, message.seed), text


async def _run(connection: Connection, session: Session, index: int, studio: Studio) -> None:
    """Send the fragments from number `index` on and receive messages, until one side ends."""
    replaced = asyncio.Event()
    session.attach(replaced.set)
    sender = asyncio.create_task(_send_stream(connection, session, index, studio))
    receiver = asyncio.create_task(_receive(connection, session, studio))
    newer = asyncio.create_task(replaced.wait())
    tasks = (sender, receiver, newer)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if newer.done():
            raise Refused("replaced", "another connection continues this session")
        if sender.done():
            sender.result()
            if session.stopped:
                studio.sessions.end(session)  # nothing is left to continue
            # A client that closes first does not send its last reports into a closed connection.
            await asyncio.wait((receiver,), timeout=CLOSING)
            if not receiver.done():
                await connection.websocket.close(NORMAL)
        else:
            receiver.result()
    finally:
        await _cancel(tasks)
        if not replaced.is_set():
            session.detach()
        # Their exceptions refer to this frame: without the cycle, the session is freed at once.
        del sender, receiver, newer, tasks


async def _cancel(tasks: Iterable[asyncio.Task]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _send_stream(connection: Connection, session: Session, index: int, studio: Studio) -> None:
    """Send the stream from fragment `index` on, and `session.done`.

    Raises:
        Refused: the fragment is no longer kept.
        WebSocketDisconnect: the client has disconnected.
    """
    size = studio.system.resolution
    lookahead = 0 if session.clip.generates_audio else round(1000 * lookahead_seconds(studio.system))
    config = VideoConfig(codecs=session.codecs, width=size, height=size, lookahead_ms=lookahead)
    await connection.send(VideoStart(request_id=session.id, config=config))
    warned = speaking = False
    end = 0  # frames
    try:
        async for fragment in session.follow(index):
            session.report_sent(fragment)
            if fragment.frames and fragment.speaks != speaking:
                speaking, end = fragment.speaks, fragment.first_frame
                await connection.send(
                    SpeechStarted(start_ms=milliseconds(end)) if speaking else _speech_ended(session, end)
                )
            end = fragment.first_frame + fragment.frames
            await connection.send(_metadata(session, fragment), fragment.data)
            for caption in fragment.captions:
                event = CaptionEvent(text=caption.text, start_ms=caption.start_ms, end_ms=caption.end_ms)
                await connection.send(event)
            if session.is_behind and not warned:
                warned = True
                await connection.send(WarningEvent(code="slower_than_real_time", message=SLOW))
            index = fragment.index + 1
    except FragmentLost as error:
        raise Refused("chunk_lost", f"{error}: start another session") from error
    if speaking:
        await connection.send(_speech_ended(session, end))
    if session.stop_code is not None:
        await connection.send(
            ErrorEvent(code=session.stop_code, message=ENDINGS[session.stop_code], request_id=session.id)
        )
    elif session.error is not None:
        known = isinstance(session.error, UserError)
        message = str(session.error) if known else "the generation failed: see the log of the server"
        await connection.send(ErrorEvent(code="server_error", message=message, request_id=session.id))
    first = session.first_chunk_seconds
    await connection.send(
        SessionDone(
            request_id=session.id,
            chunks=index,
            stopped=session.stopped,
            finish_reason=session.finish_reason,
            time_to_first_audio=first,  # a fragment holds sound and frames
            time_to_first_frame=first,
            rtf=session.rtf,
        )
    )


def _speech_ended(session: Session, frames: int) -> SpeechEnded:
    return SpeechEnded(end_ms=milliseconds(frames), rtf=session.rtf)


def _metadata(session: Session, fragment: Fragment) -> ChunkMetadata:
    return ChunkMetadata(
        request_id=session.id,
        kind="media" if fragment.frames else "trailer",
        first_frame=fragment.first_frame,
        num_frames=fragment.frames,
        byte_length=len(fragment.data),
        generation_chunk_index=fragment.index,
        transport_chunk_index=fragment.index,
    )


async def _receive(connection: Connection, session: Session, studio: Studio) -> None:
    """Handle the messages of a running session. Ends only by WebSocketDisconnect."""
    while True:
        message = await connection.receive()
        try:
            await _handle(message, connection, session, studio)
        except InputError as error:
            await connection.send_error(error)


async def _handle(message: ClientMessage, connection: Connection, session: Session, studio: Studio) -> None:
    """Handle one message. Raises InputError if it cannot be used."""
    match message:
        case Playback():
            session.report_playback(message.position_ms)
        case SessionPing():
            await connection.send(SessionPong())
        case SessionStop():
            studio.sessions.end(session)
        case Interrupt():
            if message.audio_end_ms is not None:
                session.report_playback(message.audio_end_ms)
            session.interrupt()
            if not session.stopped:
                await asyncio.to_thread(session.wait_for_interruption)
            position = dataclasses.asdict(session.position)
            await connection.send(SessionInterrupted(event_id=message.event_id, **position))
        case SessionStart() | SessionResume():
            raise InputError("unexpected_message", "this connection has a session: open another connection")
        case _:
            session.report_input()
            await asyncio.to_thread(_feed, message, session)


def _feed(message: ClientMessage, session: Session) -> None:
    """Pass text or sound to the session. Raises InputError if it cannot be used."""
    match message, session.feed:
        case TextAppend(), TextInput() as text:
            text.append(message.text)
        case TextCommit(), TextInput() as text:
            text.commit()
        case TextEnd(), TextInput() as text:
            text.end()
        case AudioAppend(), SoundInput() as sound:
            sound.append(message.audio, session.idle.taken)
        case AudioEnd(), SoundInput() as sound:
            sound.end()
        case _:
            raise InputError("unexpected_message", f"{message.type} does not fit the input of this session")
