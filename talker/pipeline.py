"""The public API of the package: `Talker` generates speech and video from a text, a voice and a portrait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from heads.sampling import Sampling
from talker.clips.animate import Animation, LiveAnimation, lookahead_seconds
from talker.clips.clip import Chunk, Take
from talker.clips.cloning import clone_voice
from talker.clips.dub import Dubbing
from talker.clips.say import Utterance
from talker.clips.text import sentences_of
from talker.clips.together import Plan, map_clips
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
    """Generates speech and video. One instance serves any number of calls and threads."""

    def __init__(self, system: System) -> None:
        """`system`: the networks of one checkpoint."""
        self.system = system

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, device: str = "cpu", dtype: str = "float32"
    ) -> Talker:
        """Load a native checkpoint. Nothing is downloaded.

        Args:
            model: name of a shipped model, or a folder; None: the default model, which was trained on
                synthetic people only.
            device: any device of PyTorch, such as "cpu" or "cuda".
            dtype: "float32", "bfloat16" or "float16".

        Raises:
            UserError: a part is missing or does not match the others, or the device or dtype does not exist.
        """
        return cls(System.load(model_folder(model), device, dtype))

    def __repr__(self) -> str:
        return f"<Talker: {self.system.summary}>"

    def voice(
        self, voice: str | Path | None = None, text: str | None = None, prefix_seconds: float | None = None
    ) -> Voice:
        """Compute a voice from a recording. The result does not contain the recording.

        Args:
            voice: name of a shipped voice, or a file with speech; None: the first shipped voice.
            text: transcript of the recording. Every sentence is then generated as a continuation of the
                recording.
            prefix_seconds: continue from the first seconds of the recording. The text of a clip must then
                begin with the words spoken in them. Not allowed together with `text`.

        Raises:
            UserError: the file or name does not exist, or the recording is silent, too short or too long.
        """
        path = shipped("voices", voice)
        pcm = read_voice(path)
        made = Voice(path.stem, self.system.embed_voice(pcm))
        if text is None and prefix_seconds is None:
            return made
        return clone_voice(self.system, made, pcm, text, prefix_seconds)

    def portrait(self, portrait: str | Path | None = None, crop: str = "face") -> Portrait:
        """Compute a portrait from an image.

        Args:
            portrait: name of a shipped portrait, or an image file; None: the first shipped portrait.
            crop: "face" finds the face and crops to it, "none" takes the largest centred square.

        Raises:
            UserError: the file or name does not exist, is not an image, or shows no face.
        """
        path = shipped("portraits", portrait)
        image, framing = read_portrait(path, self.system.resolution, crop)
        return Portrait(path.stem, self.system.source(image), framing)

    def _voice(self, given: Voice | str | Path | None) -> Voice:
        if given is None or isinstance(given, str | Path):
            return self.voice(given)
        if not isinstance(given, Voice):
            raise UserError(f"{given!r} is no voice: give a name, a file, or a result of Talker.voice")
        return given

    def _portrait(self, given: Portrait | str | Path | None) -> Portrait:
        if given is None or isinstance(given, str | Path):
            return self.portrait(given)
        if not isinstance(given, Portrait):
            raise UserError(f"{given!r} is no portrait: give a name, a file, or a result of Talker.portrait")
        return given

    def say(
        self,
        text: str,
        voice: Voice | str | Path | None = None,
        portrait: Portrait | str | Path | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
        audio_only: bool = False,
        stop: StopRule | None = None,
        force: bool = False,
    ) -> Utterance:
        """Plan a clip of `text`. Call `.save(path)` on the result, or iterate over its chunks.

        Args:
            text: English text. It is generated sentence by sentence.
            voice, portrait: results of `voice` and `portrait`, or names or files for them; None: the first
                shipped ones.
            seed: seed of the noise.
            sampling, stop: None: the defaults of the model.
            audio_only: generate speech without video, with the task "tts". The portrait is not used.
            force: read a text of another language by English rules, and drop letters of other scripts.

        Raises:
            UserError: the text has no words that can be spoken or is not English, or the text of the voice is
                too long.
        """
        sentences = sentences_of(self.system, text, force)
        spoken, face = self._voice(voice), None if audio_only else self._portrait(portrait)
        clip = Utterance(self.system, sentences, spoken, face, _checked(seed), sampling, stop)
        if spoken.said and min(map(clip.longest, sentences)) < 1:
            raise UserError("the text of the voice's recording is too long: give a shorter recording")
        return clip

    def stream(
        self,
        text: str,
        voice: Voice | str | Path | None = None,
        portrait: Portrait | str | Path | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """Yield the chunks of `say` while the following ones are generated. The values are identical."""
        return iter(self.say(text, voice, portrait, seed, sampling))

    def animate(
        self,
        audio: str | Path,
        portrait: Portrait | str | Path | None = None,
        text: str | None = None,
        transcriber: Callable[[Tensor], str] | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Animation:
        """Plan a video of a recording. Call `.save(path)` on the result, or iterate over its chunks.

        Args:
            audio: a file with speech, whose sound is kept.
            portrait: see `say`.
            text: transcript of the recording. It improves the lip motion.
            transcriber: function that computes the transcript (see `talker.clips.transcript`); used if
                `text` is None.
            seed: seed of the noise.
            sampling: None: the defaults of the model.

        Raises:
            UserError: the file does not exist or has no sound, or the text cannot be spoken.
        """
        return Animation.of(
            self.system, audio, self._portrait(portrait), text, transcriber, _checked(seed), sampling
        )

    def animate_stream(
        self,
        sound: Channel[np.ndarray],
        portrait: Portrait | str | Path | None = None,
        level: float | None = None,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> Iterator[Chunk]:
        """Yield video of live sound. A chunk is complete `lookahead_seconds` after its start.

        The values do not depend on how the sound is split into arrays. With the `level` of a recording they
        equal those of `animate` without a text.

        Args:
            sound: a channel into which another thread puts arrays (n,) float32, mono at 24 kHz, of any n,
                until it closes the channel. Closing the iterator cancels the channel, and cancelling the
                channel ends the iteration.
            portrait: see `say`.
            level: level of the speech as root mean square, 0 to 1; None: estimated while the sound arrives.
            seed: seed of the noise.
            sampling: None: the defaults of the model.

        Raises:
            UserError: the model encodes only whole recordings; or, during the iteration, an array is not
                mono float32 or not finite.
        """
        return iter(
            LiveAnimation(self.system, sound, self._portrait(portrait), level, _checked(seed), sampling)
        )

    @property
    def lookahead_seconds(self) -> float:
        """Seconds of sound that `animate_stream` needs after the start of a chunk."""
        return lookahead_seconds(self.system)

    def dub(
        self,
        video: str | Path,
        text: str,
        voice: Voice | str | Path | None = None,
        crop: str = "face",
        seed: int = 0,
        sampling: Sampling | None = None,
        force: bool = False,
        progress: Callable[[float], object] = lambda seconds: None,
    ) -> Dubbing:
        """Plan speech for a video of a person. Call `.save(path)` on the result, or iterate over its chunks.

        Args:
            video: a video file of one person who speaks.
            text: English text to speak.
            voice: see `say`.
            crop: "face" finds the face and crops to it, "none" takes the largest centred square.
            seed: seed of the noise.
            sampling: None: the defaults of the model.
            force: see `say`.
            progress: called with the seconds of video that were searched for the face since the last call.

        Raises:
            UserError: the file does not exist or shows no face, or the text is not English or cannot be
                spoken.
        """
        return Dubbing.of(
            self.system, video, text, self._voice(voice), crop, _checked(seed), sampling, force, progress
        )

    def map(
        self, clips: Iterable[Plan], capacity: int = DEFAULT_CAPACITY, ordered: bool = True
    ) -> Iterator[Take]:
        """Yield a take of each clip, and generate several clips at once as rows of one batch.

        An error while a clip is generated, or while a function builds it, is stored in `error` of its take
        and raised when the take is saved. The other clips continue. A take has identical values in every map
        of the same capacity; a clip that is saved without a map differs by rounding.

        Args:
            clips: clips of any tasks, or functions that build one, such as `lambda: talker.say(text)`.
            capacity: number of rows of the batch.
            ordered: whether takes are yielded in the order of the clips, or as soon as they are finished.

        Raises:
            ValueError: the capacity is not supported.
        """
        return map_clips(self.system, clips, capacity, ordered)


def _checked(seed: int) -> int:
    """The seed, if it is one. Raises UserError otherwise."""
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise UserError(f"the seed is {seed!r}: give 0 or a positive integer below 2^63")
    return seed
