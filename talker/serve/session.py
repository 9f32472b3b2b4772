"""A live session: one clip, generated as rows of the shared batch and encoded to numbered fragments."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from talker.clips.animate import LiveAnimation
from talker.clips.clip import Chunk
from talker.clips.continuation import part_seed
from talker.clips.idle import Idle, IdleLoop
from talker.clips.say import LiveUtterance
from talker.clock import FRAME_RATE, HOP, SAMPLE_RATE
from talker.generation.request import Request
from talker.generation.scheduler import Ticket
from talker.media.fragments import FragmentEncoder
from talker.serve.captions import Caption, Captions
from talker.serve.inputs import SoundInput, TextInput
from talker.serve.keys import NO_KEYS_OWNER
from talker.stages import Cancelled

log = logging.getLogger(__name__)

LiveClip = LiveUtterance | LiveAnimation


@dataclass(frozen=True)
class Limits:
    """Time limits of sessions, in seconds.

    Args:
        ahead: media that is generated beyond the reported playback position.
        comfortable: media ahead of the playback at which a session can wait for other work.
        behind: delay behind real time at which a session is reported as slow.
        kept: media that is kept for clients that connect again.
        slow_reader: time without a playback report after which a session that waits for one ends.
        start: time from the connection to the first message.
        hold: time that a session waits for a client that has disconnected.
        hold_when_full: the same, if another client wants to start a session and all are in use.
        idle: time without input and speech after which a session ends.
        total: longest session.
        pause: media ahead of the playback below which the face waits, if there is no input.
        drain: time for the sessions to end after SIGTERM.
    """

    ahead: float = 10.0
    comfortable: float = 3.0
    behind: float = 1.0
    kept: float = 60.0
    slow_reader: float = 60.0
    start: float = 10.0
    hold: float = 30.0
    hold_when_full: float = 5.0
    idle: float = 120.0
    total: float = 3600.0
    pause: float = 0.6
    drain: float = 30.0


@dataclass(frozen=True)
class Fragment:
    """A fragment of the stream.

    Attributes:
        index: number of the fragment.
        data: its bytes. Those of the first one begin with the init segment.
        first_frame: index of its first frame.
        frames: number of frames; 0 in the last fragment, which holds the end of the sound.
        captions: captions that became known with it.
        motion: raw motion (M,) of its last frame; None in the last fragment.
        speaks: whether it is part of the speech; otherwise, the face waits.
    """

    index: int
    data: bytes
    first_frame: int
    frames: int
    captions: tuple[Caption, ...] = ()
    motion: Tensor | None = field(default=None, compare=False)
    speaks: bool = True

    @property
    def has_keyframe(self) -> bool:
        """Whether one of its frames can be decoded alone. Every second starts with such a frame."""
        return -self.first_frame % FRAME_RATE < self.frames


@dataclass(frozen=True)
class Position:
    """How far a session has come, in milliseconds of media. `played_ms` is what the client reported."""

    generated_ms: int
    sent_ms: int
    played_ms: int


class FragmentLost(LookupError):  # noqa: N818 - not an error of the server
    """The fragment is no longer kept."""


class Session:
    """Generates one clip, and keeps its last fragments for readers.

    Its thread decodes, renders and encodes. It waits while more than `Limits.ahead` seconds are not played
    yet; meanwhile its row of the batch is not advanced. Where no input is there, the face waits (see
    `talker.clips.idle`), without a row. After an interruption, a copy of the clip continues with new input.

    Attributes:
        id: random name of the session.
        owner: who may use the session, see `talker.serve.keys`.
        clip: the clip, or its copy after an interruption.
        feed: where the text or sound of the client goes; the clip reads `feed.channel`.
        idle: what the clip shows while it waits.
        codecs: codec string for MediaSource.
        init: init segment of the stream.
        error: the error that ended the session, or None.
        stopped: whether `stop` was called.
        stop_code: why; None if the client asked for it.
        finished: whether no more fragments will come.
        first_chunk_seconds: time from the first request to the first fragment of speech; None before it.
        count: number of fragments so far.
        busy_seconds: time spent on the speech so far, without waiting for input and for the client.
        began, active, detached: times (`time.monotonic`) of the start, of the last input or fragment of
            speech, and of the client's disconnection; `detached` is None while a client is connected.
    """

    def __init__(
        self,
        clip: LiveClip,
        feed: TextInput | SoundInput,
        generate: Callable[[Request], Ticket],
        loop: IdleLoop,
        limits: Limits,
        on_end: Callable[[Session], None],
        owner: str = NO_KEYS_OWNER,
    ) -> None:
        """Start the session.

        Args:
            clip: a clip with a portrait.
            feed: input of the clip.
            generate: starts a generation, `Scheduler.submit`.
            loop: motion of the portrait while it waits.
            limits: time limits.
            on_end: called in the session's thread when it has ended.
            owner: see the attributes.
        """
        self.id, self.owner = secrets.token_urlsafe(16), owner
        self.feed, self.limits = feed, limits
        self._encoder = FragmentEncoder(clip.system.resolution, clip.tags)
        self.init, self.codecs = self._encoder.init, self._encoder.codecs
        self.error: Exception | None = None
        self.stop_code: str | None = None
        self.stopped = self.finished = False
        self.first_chunk_seconds: float | None = None
        self.busy_seconds = 0.0
        self.began = self.active = self._reported = time.monotonic()
        self.detached: float | None = None
        self._generate, self._on_end = generate, on_end
        self._on_replaced: Callable[[], None] | None = None
        self.idle = Idle(loop, self._is_dry)
        self._begin(clip, 0)
        lookahead = clip.system.audio_vae.lookahead if clip.generates_audio else 0
        self._lag = math.ceil(lookahead / clip.system.patch_frames)  # patches that the decoder holds back
        self._first_requested = 0.0
        self._resumed = 0.0  # time of the last request before which the session waited for input
        self._ticket: Ticket | None = None
        self._fragments: deque[Fragment] = deque()
        self.count = self._samples = self._spoken = self._sent = self._played = 0
        self._interrupted = False  # until the thread has ended the take
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], object]] = []
        self._thread = threading.Thread(target=self._run, name=f"session {self.id}", daemon=True)
        self._thread.start()

    # -- what the client does ------------------------------------------------------------------------------

    def report_playback(self, milliseconds: int) -> None:
        """Record the playback position of the client."""
        with self._changed:
            self._played, self._reported = max(self._played, milliseconds), time.monotonic()
            self._changed.notify_all()

    def report_input(self) -> None:
        """Record that the client sent text or sound."""
        self.active = time.monotonic()

    def report_sent(self, fragment: Fragment) -> None:
        """Record that a fragment was sent."""
        end = 1000 * (fragment.first_frame + fragment.frames) // FRAME_RATE
        with self._changed:
            self._sent = max(self._sent, end)
            self._changed.notify_all()

    def detach(self) -> None:
        """The client has disconnected: pause the generation, and keep its row, until `attach` is called."""
        with self._changed:
            self.detached, self._on_replaced = time.monotonic(), None
            if self._ticket is not None:
                self._ticket.pause()

    def attach(self, on_replaced: Callable[[], None]) -> None:
        """A client has connected. `on_replaced` is called if another one connects meanwhile."""
        with self._changed:
            if self._on_replaced is not None:
                self._on_replaced()
            self._on_replaced = on_replaced
            self.detached, self._reported = None, time.monotonic()
            if self._ticket is not None:
                self._ticket.resume()
            self._changed.notify_all()

    def interrupt(self) -> None:
        """Drop the speech and the input so far, and wait for new input. Stop if the input has ended.

        The row is free at the next patch.
        """
        if self.feed.ended:
            self.stop()
            return
        with self._changed:
            if self.finished:
                return
            self._interrupted = True
            if self._ticket is not None:
                self._ticket.cancel()
            self.feed.clear()
            self._changed.notify_all()

    def wait_for_interruption(self) -> None:
        """Wait until the last fragment of the speech before `interrupt` is there."""
        with self._changed:
            self._changed.wait_for(lambda: not self._interrupted or self.finished or self.stopped)

    def stop(self, code: str | None = None) -> None:
        """End the session and its readers: its row is free at the next patch. `code`: see `stop_code`."""
        with self._changed:
            if self.stopped:
                return
            self.stopped, self.stop_code = True, code
            if self._ticket is not None:
                self._ticket.cancel()
        for channel in self.clip.inputs:
            channel.cancel()
        self._notify()

    def join(self) -> None:
        """Wait until the thread of the session has ended."""
        self._thread.join()

    # -- what it has done ----------------------------------------------------------------------------------

    @property
    def finish_reason(self) -> str:
        """See `Take.finish_reason`."""
        return "interrupted" if self.stopped else self._take.finish_reason

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return self._samples

    @property
    def position(self) -> Position:
        """How far the session has come."""
        return Position(1000 * self._samples // SAMPLE_RATE, self._sent, self._played)

    @property
    def rtf(self) -> float | None:
        """Real-time factor of the speech: `busy_seconds` divided by its duration; None before it."""
        return self.busy_seconds * SAMPLE_RATE / self._spoken if self._spoken else None

    @property
    def is_behind(self) -> bool:
        """Whether the session is generated slower than real time, so that its playback stalls."""
        return self.busy_seconds - self._spoken / SAMPLE_RATE > self.limits.behind

    @property
    def waits(self) -> bool:
        """Whether the session has generated all of its input, so that the face waits for more."""
        return not self._take.record.speaks(max(self._take.patches - 1, 0))

    @property
    def needs_priority(self) -> bool:
        """Whether a client will soon wait for what is generated now."""
        ticket = self._ticket
        works = ticket is not None and ticket.finish_reason is None and self.detached is None
        return works and self._ahead() < self.limits.comfortable

    def oldest_keyframe(self) -> int:
        """Index of the first kept fragment at which decoding can start; of the next fragment if none."""
        with self._changed:
            return next((part.index for part in self._fragments if part.has_keyframe), self.count)

    async def follow(self, index: int) -> AsyncIterator[Fragment]:
        """Yield the fragments from number `index` on, until the session has ended.

        Raises:
            FragmentLost: a fragment is no longer kept.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._listeners.append(listener)
        try:
            while not self.stopped:
                changed.clear()
                finished, fragment = self.finished, self._fragment(index)
                if fragment is not None:
                    yield fragment
                    index += 1
                elif finished:
                    return
                else:
                    await changed.wait()
        finally:
            with self._changed:
                self._listeners.remove(listener)

    def _fragment(self, index: int) -> Fragment | None:
        """A kept fragment; None if it does not exist yet."""
        with self._changed:
            if index >= self.count:
                return None
            oldest = self._fragments[0].index
            if index < oldest:
                raise FragmentLost(f"fragment {index} is no longer kept: the oldest one is {oldest}")
            return self._fragments[index - oldest]

    # -- its thread ----------------------------------------------------------------------------------------

    def _begin(self, clip: LiveClip, first: int) -> None:
        """Prepare the take of a clip whose first frame has the index `first` in the stream."""
        self.clip: LiveClip = dataclasses.replace(clip, idle=self.idle)
        self._take, self._done, self._first = self.clip.take(), 0, first  # `_done`: chunks of the take
        self._captions = Captions(self._take, first)

    def _run(self) -> None:
        try:
            while self._speak() and self._begin_again():
                pass
        except Exception as error:
            if not self.stopped:
                log.exception("session %s failed", self.id)
                self.error = error
        finally:
            end = self._encoder.finish()
            if end and not self.stopped and self.error is None:
                self._keep(end)
            with self._changed:
                self.finished, self._ticket = True, None
                self.idle.is_due = lambda: False  # no reference to itself: the session is freed at once
            self._on_end(self)
            self._notify()

    def _speak(self) -> bool:
        """Generate and encode the take; returns whether it was interrupted."""
        with (
            contextlib.suppress(Cancelled),
            contextlib.closing(self._take.chunks(self._submit)) as chunks,  # type: ignore[type-var]
        ):
            asked = time.monotonic()
            for chunk in chunks:
                if self._interrupted:
                    break
                self._add(chunk, asked)
                self._wait_for_room()
                if self.stopped:
                    break
                asked = time.monotonic()
        return self._interrupted and not self.stopped

    def _begin_again(self) -> bool:
        """Prepare a copy of the clip in which the face moves on from what is seen; False if stopped."""
        with self._changed:
            if self.stopped:
                return False
            seen = next((part for part in reversed(self._fragments) if self._is_seen(part)), None)
            shown = None if seen is None else seen.motion
            self.idle = Idle(self.idle.loop, self._is_dry, shown, self.idle.frame)
            inputs: dict[str, Any] = {
                "sentences" if isinstance(self.clip, LiveUtterance) else "sound": self.feed.channel
            }
            seed = part_seed(self.clip.seed, self._encoder.frames)
            self._begin(dataclasses.replace(self.clip, seed=seed, **inputs), self._encoder.frames)
            self._interrupted, self._ticket = False, None
            self._changed.notify_all()
            return True

    def _is_seen(self, part: Fragment) -> bool:
        return part.motion is not None and 1000 * part.first_frame <= self._played * FRAME_RATE

    def _submit(self, request: Request) -> Ticket:
        """Start the generation of a request, unless the session was stopped."""
        with self._changed:
            if self.stopped or self._interrupted:
                raise Cancelled
            now = time.monotonic()
            self._first_requested = self._first_requested or now
            if self._done >= self._take.patches - self._lag:
                self._resumed = now
            self._ticket = ticket = self._generate(request)
            if self.detached is not None:
                ticket.pause()
            self._captions.begin(request.text, ticket)
        return ticket

    def _add(self, chunk: Chunk, asked: float) -> None:
        """Encode a chunk that the thread has waited for since `asked`."""
        data = self._encoder.encode(chunk.pcm, chunk.frames)
        now, samples = time.monotonic(), max(len(chunk.pcm), len(chunk.frames) * HOP)
        speaks = self._take.record.speaks(self._done)
        with self._changed:
            if speaks:
                if self.first_chunk_seconds is None:
                    self.first_chunk_seconds = now - self._first_requested
                self.busy_seconds += now - max(asked, self._resumed)
                self._spoken += samples
                self.active = now
            self._done, self._samples = self._done + 1, self._samples + samples
        self._keep(data, chunk, speaks)

    def _keep(self, data: bytes, chunk: Chunk | None = None, speaks: bool = True) -> None:
        """Number a fragment. `chunk`: what it contains; None: the end of the sound."""
        frames, motion = (0, None) if chunk is None else (len(chunk.frames), chunk.motion)
        with self._changed:
            first = self._encoder.frames - frames
            captions = tuple(self._captions.new(first + frames))
            prefix = b"" if self.count else self.init
            last = None if motion is None else motion[-1]
            part = Fragment(self.count, prefix + data, first, frames, captions, last, speaks)
            self._fragments.append(part)
            self.count += 1
            while first - self._fragments[0].first_frame > self.limits.kept * FRAME_RATE:
                self._fragments.popleft()
        self._notify()

    def _wait_for_room(self) -> None:
        """Wait until at most `Limits.ahead` seconds are not played yet."""
        with self._changed:
            began = time.monotonic()
            while not (self.stopped or self._interrupted) and self._ahead() > self.limits.ahead:
                left = self.limits.slow_reader + max(began, self._reported) - time.monotonic()
                if self.detached is not None:
                    self._changed.wait()
                elif left <= 0:
                    self.stop("slow_reader")
                else:
                    self._changed.wait(left)

    def _is_dry(self) -> bool:
        """Whether the client will soon have played all that was generated, if it plays on without pauses."""
        with self._changed:
            if self.detached is not None or self.stopped:
                return False
            decoded = (self._take.patches - self._lag) * self.clip.system.patch_frames
            made = (self._first + decoded) / FRAME_RATE
            now = time.monotonic()
            if not self._sent:
                return now - self.began > self.limits.pause and made < self.limits.pause
            played = min(self._played / 1000 + now - self._reported, self._sent / 1000)
            return made - played < self.limits.pause

    def _ahead(self) -> float:
        """Seconds of media that the client has not played. It cannot have played what was not sent."""
        position = self.position
        return (position.generated_ms - min(position.sent_ms, position.played_ms)) / 1000

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
