"""Messages of `WS /v1/realtime/video`: JSON texts, each with a `type`."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from talker.clock import FRAME_RATE, SAMPLE_RATE
from talker.serve.inputs import InputError

LONGEST_MESSAGE = 1_000_000  # characters: 31 s of sound in base64
Milliseconds = Annotated[int, Field(ge=0, le=10**9)]


class Message(BaseModel):
    """A message of a client. A field that a message does not have is an error that names the field."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileReference(BaseModel):
    """The id of an upload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_id: str


class SessionStart(Message):
    """Start a session. It must be the first message of a connection, unless that is `session.resume`.

    A `prompt` is the whole text. Without it, the input is sent by `input_text.*` or `input_audio.*`.
    `image_reference` names an uploaded portrait, as `portrait` does.
    """

    type: Literal["session.start"]
    prompt: str = ""
    input: Literal["text", "audio"] = "text"
    model: str | None = None
    voice: str | None = None
    portrait: str | None = None
    image_reference: FileReference | None = None
    seed: int = Field(0, ge=0, lt=2**63)
    format: Literal["m4s"] = "m4s"
    width: int | None = None
    height: int | None = None
    fps: int | None = None


class SessionResume(Message):
    """Continue a session whose connection was lost, from a fragment."""

    type: Literal["session.resume"]
    request_id: str
    transport_chunk_index: int = Field(ge=0)


class SessionStop(Message):
    """End the session at once."""

    type: Literal["session.stop"]


class SessionPing(Message):
    """Ask for `session.pong`."""

    type: Literal["session.ping"]


class TextAppend(Message):
    """Add text, in pieces of any length."""

    type: Literal["input_text.append"]
    text: str


class TextCommit(Message):
    """Speak what was added so far. More text may follow."""

    type: Literal["input_text.commit"]


class TextEnd(Message):
    """Commit, and end the session when all text has been spoken."""

    type: Literal["input_text.end"]


class AudioAppend(Message):
    """Add sound: base64 of 16-bit little-endian samples, mono at 24 kHz."""

    type: Literal["input_audio.append"]
    audio: str


class AudioEnd(Message):
    """End the session when all sound has been animated."""

    type: Literal["input_audio.end"]


class Interrupt(Message):
    """End the speech at once, and the session if its input has ended. `audio_end_ms`: playback position.

    The answer is `session.interrupted`. Then continue at its `generated_ms`: the face waits for new input.
    """

    type: Literal["interrupt"]
    event_id: str | None = None
    audio_end_ms: Milliseconds | None = None


class Playback(Message):
    """Playback position, to be sent at least once a second."""

    type: Literal["playback"]
    position_ms: Milliseconds


ClientMessage = (
    SessionStart
    | SessionResume
    | SessionStop
    | SessionPing
    | TextAppend
    | TextCommit
    | TextEnd
    | AudioAppend
    | AudioEnd
    | Interrupt
    | Playback
)
TYPES = tuple(get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(ClientMessage))
_CLIENT: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


class VideoConfig(BaseModel):
    """Properties of the stream. `lookahead_ms`: sound that is needed after the start of a chunk."""

    codecs: str
    width: int
    height: int
    fps: int = FRAME_RATE
    sample_rate: int = SAMPLE_RATE
    lookahead_ms: int


class VideoStart(BaseModel):
    """The session has started, or continues."""

    type: Literal["video.start"] = "video.start"
    request_id: str
    format: Literal["m4s"] = "m4s"
    config: VideoConfig


class ChunkMetadata(BaseModel):
    """Describes the binary message that follows: one fragment of the stream.

    `kind` "trailer" is the end of the sound. The lists of event ids are empty: there are no interactions.
    """

    type: Literal["video.chunk_metadata"] = "video.chunk_metadata"
    request_id: str
    kind: Literal["media", "trailer"]
    first_frame: int
    num_frames: int
    byte_length: int
    generation_chunk_index: int
    transport_chunk_index: int
    started_event_ids: tuple[str, ...] = ()
    active_event_ids: tuple[str, ...] = ()
    completed_event_ids: tuple[str, ...] = ()


class CaptionEvent(BaseModel):
    """A word that was spoken; without alignment, a sentence. Times are those of the stream."""

    type: Literal["caption"] = "caption"
    text: str
    start_ms: int
    end_ms: int


class SpeechStarted(BaseModel):
    """The following fragments are speech, from `start_ms` of the stream on."""

    type: Literal["speech.started"] = "speech.started"
    start_ms: int


class SpeechEnded(BaseModel):
    """The speech has ended at `end_ms` of the stream: the face waits for input, or the session ends.

    `rtf` is the real-time factor of all speech of the session.
    """

    type: Literal["speech.ended"] = "speech.ended"
    end_ms: int
    rtf: float | None


class SessionInterrupted(BaseModel):
    """Answer to `interrupt`. `played_ms` is what the client reported."""

    type: Literal["session.interrupted"] = "session.interrupted"
    event_id: str | None
    generated_ms: int
    sent_ms: int
    played_ms: int


class SessionPong(BaseModel):
    """Answer to `session.ping`."""

    type: Literal["session.pong"] = "session.pong"


class SessionDone(BaseModel):
    """The session has ended. Times are in seconds from the first request, `rtf` is the real-time factor."""

    type: Literal["session.done"] = "session.done"
    request_id: str
    chunks: int
    stopped: bool
    finish_reason: str
    time_to_first_audio: float | None
    time_to_first_frame: float | None
    rtf: float | None


class WarningEvent(BaseModel):
    """A problem that does not end the session, sent once: the code is "slower_than_real_time"."""

    type: Literal["warning"] = "warning"
    code: str
    message: str


class ErrorEvent(BaseModel):
    """An error. `retry_after`: seconds after which another attempt makes sense.

    The session continues after the codes invalid_message, unknown_type, unsupported_field,
    message_too_large, unexpected_message, invalid_text, invalid_audio, input_full and input_ended. The
    connection is closed after start_timeout, unsupported_task, not_found, chunk_lost, at_capacity, draining,
    replaced, slow_reader, idle, too_long and server_error, and after any error of `session.start`.
    """

    type: Literal["error"] = "error"
    code: str
    message: str
    request_id: str | None = None
    retry_after: int | None = None


def parsed(text: str) -> ClientMessage:
    """Parse and check a message.

    Raises:
        InputError: it is too long, no JSON object, of an unknown type, or has a wrong or unknown field.
    """
    if len(text) > LONGEST_MESSAGE:
        raise InputError(
            "message_too_large",
            f"the message has more than {LONGEST_MESSAGE:,} characters: send smaller pieces",
        )
    try:
        return _CLIENT.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        raise InputError("unknown_type", f"the message has no known type: use one of {', '.join(TYPES)}")
    if first["type"] == "extra_forbidden":
        raise InputError("unsupported_field", f"{field[:100]} is not supported: leave it out")
    place = f"{field}: " if field else ""
    raise InputError("invalid_message", f"{place}{first['msg']}")
