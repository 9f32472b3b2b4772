"""Talker: text, a voice and a portrait become speech and video. The public face of the package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from heads.solver import Sampling
from talker.clips.animate import Animation, LiveAnimation, lookahead_seconds
from talker.clips.clip import Chunk, Take
from talker.clips.cloning import cloned
from talker.clips.dub import Dubbing
from talker.clips.say import Utterance
from talker.clips.text import sentences_of
from talker.clips.together import Plan, made_together
from talker.errors import UserError
from talker.generation.running_batch import DEFAULT_CAPACITY
from talker.identity import Portrait, Voice
from talker.media.face import read_portrait
from talker.media.readers import read_voice
from talker.model.defaults import StopRule
from talker.shipped import model_folder, shipped
from talker.stages import Channel
from talker.system import System


class Talker:
    """The whole system. Serves any number of calls and threads."""

    def __init__(self, system: System) -> None:
        self.system = system

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, device: str = "cpu", dtype: str = "float32"
    ) -> Talker:
        """A native checkpoint: a shipped name, a folder, or None for the default that the package carries.

        The default knows synthetic people only; nothing is downloaded. `dtype`: "float32", "bfloat16" or
        "float16".

        Raises:
            UserError: a part is missing or does not fit, or there is no such device or dtype.
        """
        return cls(System.load(model_folder(model), device, dtype))

    def voice(
        self, voice: str | Path | None = None, text: str | None = None, prefix_seconds: float | None = None
    ) -> Voice:
        """A voice to speak with: a shipped name, any recording of speech, or None for the first shipped.

        The recording gives the speaker's embedding. With `text`, the words spoken in it, every sentence is
        spoken as if it followed the recording; with `prefix_seconds`, speech continues from the first seconds
        of the recording, and must begin with their words. Neither is heard in the result.

        Raises:
            UserError: no such file or name, no sound, too little of it, or too much to continue from.
        """
        path = shipped("voices", voice)
        pcm = read_voice(path)
        made = Voice(path.stem, self.system.embed_voice(pcm))
        if text is None and prefix_seconds is None:
            return made
        return cloned(self.system, made, pcm, text, prefix_seconds)

    def portrait(self, portrait: str | Path | None = None, crop: str = "face") -> Portrait:
        """A face to speak with: a shipped name, any picture, or None for the first shipped.

        `crop`: "face" finds and frames the face, "none" takes the largest centred square as it is.

        Raises:
            UserError: no such file or name, no picture, or no face in it.
        """
        path = shipped("portraits", portrait)
        return Portrait(path.stem, self.system.source(read_portrait(path, self.system.resolution, crop)))

    def say(
        self,
        text: str,
        voice: Voice | None = None,
        portrait: Portrait | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        audio_only: bool = False,
        stop: StopRule | None = None,
    ) -> Utterance:
        """Speech and video of `text`, sentence by sentence: `.save(path)` it, or iterate over its chunks.

        `audio_only`: speech alone, by the task that is trained for that; the portrait is not used.
        `sampling`, `stop`: None: as the weights want it.

        Raises:
            UserError: there is nothing that can be spoken, or no room for it.
        """
        sentences = sentences_of(self.system, text)
        voice, face = voice or self.voice(), None if audio_only else portrait or self.portrait()
        clip = Utterance(self.system, sentences, voice, face, seed, sampling, stop)
        if voice.said and min(map(clip.longest, sentences)) < 1:
            raise UserError("the text of the voice's recording is too long: give a shorter recording")
        return clip

    def stream(
        self,
        text: str,
        voice: Voice | None = None,
        portrait: Portrait | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """The chunks of `say`, the same bits, as they are made."""
        return iter(self.say(text, voice, portrait, seed, sampling))

    def animate(
        self,
        audio: str | Path,
        portrait: Portrait | None = None,
        text: str | None = None,
        transcriber: Callable[[Tensor], str] | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Animation:
        """Video of a recording: `.save(path)` it with its own sound, or iterate over its chunks.

        `text` says what is spoken; a `transcriber` (see `talker.clips.transcript`) finds it out; both are
        optional.

        Raises:
            UserError: no such file, no sound in it, or a text that cannot be spoken.
        """
        face = portrait or self.portrait()
        return Animation.of(self.system, audio, face, text, transcriber, seed, sampling)

    def animate_stream(
        self,
        sound: Channel[np.ndarray],
        portrait: Portrait | None = None,
        level: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """Video of sound of unknown length as it arrives.

        `sound`: a channel into which another thread puts arrays (n,) float32, mono at 24 kHz, of any n, until
        it closes the channel. Ending the iteration cancels the channel; cancelling the channel ends the
        iteration. A chunk comes `lookahead_seconds` after its beginning. The bits do not depend on how the
        sound is cut into arrays and are, with the recording's `level`, those of `animate` without a text.

        Raises:
            UserError: these weights hear a recording only as a whole; later, at an array that is no such
                sound (integers, several channels, NaN).
        """
        return iter(LiveAnimation(self.system, sound, portrait or self.portrait(), level, seed, sampling))

    @property
    def lookahead_seconds(self) -> float:
        """Sound after the beginning of a chunk that `animate_stream` needs for it."""
        return lookahead_seconds(self.system)

    def dub(
        self,
        video: str | Path,
        text: str,
        voice: Voice | None = None,
        crop: str = "face",
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Dubbing:
        """Speech that fits a video of somebody speaking `text`: `.save(path)` it, or iterate over its chunks.

        Raises:
            UserError: no such file, no face in it, or a text that cannot be spoken.
        """
        return Dubbing.of(self.system, video, text, voice or self.voice(), crop, seed, sampling)

    def map(
        self, clips: Iterable[Plan], capacity: int = DEFAULT_CAPACITY, ordered: bool = True
    ) -> Iterator[Take]:
        """One take of each clip, many at a time as rows of one batch; save them or iterate over them.

        `clips`: clips of any tasks, or functions that build one: `lambda: talker.say(text)`. What goes wrong
        with a clip, building it included, is its take's `error`, which saving it raises; the others go on.
        `ordered`: in the order of the clips; else each as soon as it is finished.

        A take has the same bits in every map with this capacity; made alone it differs by rounding.
        """
        return made_together(self.system, clips, capacity, ordered)
