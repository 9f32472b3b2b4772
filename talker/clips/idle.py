"""The face of a live clip that waits for input: it breathes and blinks, and its mouth is closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.streams import Streams
from talker.clips.clip import Piece
from talker.clips.continuation import Continuation
from talker.clips.record import Generate, Patches
from talker.clock import FRAME_RATE
from talker.generation.request import Request
from talker.identity import Portrait
from talker.stages import Cancelled, Channel
from talker.system import System

log = logging.getLogger(__name__)

LOOP_SECONDS = 6
POLL_SECONDS = 0.05  # between questions whether a patch is due
BLENDED_FRAMES = 25  # at the end of what is generated, in which the motion returns to the start of the loop


class IdleLoop:
    """Motion of a portrait in silence, generated once (A2V of silence) and then repeated.

    The generation starts in a thread with the first frames that are asked for. The face is still until it has
    ended, or if the model cannot animate sound.
    """

    def __init__(self, system: System, portrait: Portrait, generate: Generate) -> None:
        """`generate`: starts the generation of a request."""
        self._system, self._portrait, self._generate = system, portrait, generate
        self._motion = portrait.motion[None]
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._patches: Patches | None = None
        self._closed = False

    def frames(self, first: int, count: int) -> Tensor:
        """Raw motion (count, M) of the frames from number `first` on."""
        with self._lock:
            if self._thread is None and not self._closed and "a2v" in self._system.generator.tasks:
                self._thread = threading.Thread(target=self._run, name="idle motion", daemon=True)
                self._thread.start()
        motion = self._motion
        return motion[torch.arange(first, first + count) % len(motion)]

    def close(self) -> None:
        """End the generation, if it is running."""
        with self._lock:
            self._closed = True
            if self._patches is not None:
                self._patches.close()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        size = self._system.patch_frames
        frames = -(-(LOOP_SECONDS * FRAME_RATE + BLENDED_FRAMES) // size) * size
        silence = self._system.silence.expand(frames, -1)
        request = Request(
            text="", task="a2v", first_motion=self._portrait.motion, given=Streams(audio=silence), seed=0
        )
        try:
            with self._lock:
                if self._closed:
                    return
                self._patches = self._generate(request)
            with torch.inference_mode():
                motion = torch.cat([patch["motion"] for patch in self._patches])
                if not self._closed:
                    self._motion = looped(motion, BLENDED_FRAMES)
        except Cancelled:
            pass
        except Exception:
            log.exception("the motion of a waiting face could not be generated")


def looped(motion: Tensor, blended: int) -> Tensor:
    """A loop of T - blended frames of a motion (T, M), whose last frame is followed by its first one."""
    share = torch.linspace(0, 1, blended + 1)[:-1, None]
    start = torch.lerp(motion[-blended:], motion[:blended], share)
    return torch.cat([start, motion[blended:-blended]])


@dataclass
class Idle:
    """What a live clip generates while it waits for input.

    Attributes:
        loop: motion of the face.
        is_due: whether another patch is needed now.
        shown: raw motion (M,) of the last frame before the clip; None if nothing was shown before.
        frame: number of frames of the loop so far.
        taken: number of samples of live sound that the clip has taken from its channel.
    """

    loop: IdleLoop
    is_due: Callable[[], bool]
    shown: Tensor | None = None
    frame: int = 0
    taken: int = 0

    def join(self, parts: Continuation) -> None:
        """Let the motion of a take begin at what was shown before it."""
        if self.shown is not None:
            parts.follow(self.shown)
            self.shown = None

    def motion(self, count: int) -> Tensor:
        """Raw motion (count, M) of the next frames."""
        found = self.loop.frames(self.frame, count)
        self.frame += count
        return found


def waiting(system: System, idle: Idle, parts: Continuation, inputs: Channel) -> Iterator[Piece]:
    """Patches of the waiting face, each when it is due, until a channel has an item or has ended."""
    idle.join(parts)
    begins = True
    while not inputs.wait(POLL_SECONDS):
        if idle.is_due():
            yield Piece(parts.idle(silent_patch(system, idle), begins))
            begins = False


def silent_patch(system: System, idle: Idle) -> Streams:
    """Raw latents of the next patch of the waiting face."""
    size = system.patch_frames
    return Streams(audio=system.silence.expand(size, -1), motion=idle.motion(size))
