"""Text and sound that a client sends while its session runs."""

from __future__ import annotations

import base64
import binascii

import numpy as np

from talker.clips.live_text import LiveText
from talker.clips.text import sentences_of
from talker.clock import HOP, SAMPLE_RATE
from talker.errors import UserError
from talker.stages import Cancelled, Channel
from talker.system import System

LONGEST_TEXT = 100_000  # characters of a session
LONGEST_SOUND = 120  # seconds of sound that is not generated yet
LONGEST_BLOCKS = LONGEST_SOUND * SAMPLE_RATE // HOP + 2


class InputError(ValueError):
    """An input that cannot be used. The session continues without it.

    Attributes:
        code: see `talker.serve.protocol.ErrorEvent`.
        param: the field that is wrong, or None.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class TextInput:
    """Splits the text of a session and puts its sentences into `channel`. Adding text never waits.

    Attributes:
        channel: the sentences that are not spoken yet.
        ended: whether no more text comes.
    """

    def __init__(self, system: System) -> None:
        """`system`: the networks that will speak."""
        self.channel: Channel[str] = Channel(LONGEST_TEXT)
        self.ended = False
        self._system, self._text = system, LiveText()
        self._characters = 0

    def clear(self) -> None:
        """Drop what is not spoken yet: end the channel, and continue with another one."""
        channel, self.channel, self._text = self.channel, Channel(LONGEST_TEXT), LiveText()
        channel.cancel()

    def whole(self, text: str) -> None:
        """Speak a text that is known as a whole, in the sentences of `Talker.say`, and end the input.

        Raises:
            InputError: see `append`.
        """
        self._count(text)
        self._put([text])
        self.end()

    def append(self, text: str) -> None:
        """Add a piece of text.

        Raises:
            InputError: the text has ended or is too long, or a part of it cannot be spoken.
        """
        self._count(text)
        self._put(self._text.append(text))

    def commit(self) -> None:
        """Speak what was added so far. Raises InputError as `append` does."""
        self._check_open()
        self._put(self._text.commit())

    def end(self) -> None:
        """Commit, and mark the end of the text. Raises InputError as `append` does."""
        self.commit()
        self.ended = True
        self.channel.close()

    def _count(self, text: str) -> None:
        self._check_open()
        if self._characters + len(text) > LONGEST_TEXT:
            raise InputError(
                "input_full", f"a session speaks at most {LONGEST_TEXT:,} characters: start another"
            )
        self._characters += len(text)

    def _check_open(self) -> None:
        if self.ended:
            raise InputError("input_ended", "the text of this session has ended: start another session")

    def _put(self, parts: list[str]) -> None:
        wrong: UserError | None = None
        for part in parts:
            try:
                for sentence in sentences_of(self._system, part):
                    self.channel.put(sentence)
            except UserError as error:
                wrong = error
            except Cancelled:
                return  # the session has ended
        if wrong is not None:
            raise InputError("invalid_text", str(wrong)) from wrong


class SoundInput:
    """Decodes the sound of a session and puts its samples into `channel`. Adding sound never waits.

    Attributes:
        channel: the samples that are not animated yet.
        ended: whether no more sound comes.
    """

    def __init__(self) -> None:
        self.channel: Channel[np.ndarray] = Channel(LONGEST_BLOCKS)
        self.ended = False
        self._rest, self._samples = b"", 0

    def clear(self) -> None:
        """Drop what is not animated yet: end the channel, and continue with another one."""
        channel, self.channel = self.channel, Channel(LONGEST_BLOCKS)
        self._rest, self._samples = b"", 0
        channel.cancel()

    def append(self, audio: str, taken: int) -> None:
        """Add a piece of sound.

        Args:
            audio: base64 of 16-bit little-endian samples, mono at 24 kHz.
            taken: number of samples that were taken from the channel.

        Raises:
            InputError: the sound has ended or is not in this format, or too much is waiting.
        """
        self._check_open()
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise InputError("invalid_audio", "audio is not base64: send PCM16, mono, 24 kHz") from None
        if len(data) % 2:
            raise InputError("invalid_audio", "audio has an odd number of bytes: send PCM16, mono, 24 kHz")
        if self._samples + len(data) // 2 - taken > LONGEST_SOUND * SAMPLE_RATE:
            raise InputError("input_full", f"{LONGEST_SOUND} s of sound are waiting: send it again later")
        self._samples += len(data) // 2
        # Pieces of any size become blocks of one frame or more, so that their number is limited, too.
        self._rest += data
        if len(self._rest) >= 2 * HOP:
            self._put()

    def end(self) -> None:
        """Mark the end of the sound. Raises InputError if it has ended."""
        self._check_open()
        self.ended = True
        self._put()
        self.channel.close()

    def _check_open(self) -> None:
        if self.ended:
            raise InputError("input_ended", "the sound of this session has ended: start another session")

    def _put(self) -> None:
        samples = np.frombuffer(self._rest, "<i2").astype(np.float32) / 32768
        self._rest = b""
        try:
            self.channel.put(samples)
        except Cancelled:
            return  # the session has ended
