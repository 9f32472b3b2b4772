"""The interface of a model: it turns a Request into raw latents, patch by patch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from heads.streams import Streams
from talker.generation.batch import Generation
from talker.generation.request import Request
from talker.generation.scheduler import Scheduler
from talker.model.defaults import Defaults
from talker.text.tokenizer import Tokenizer


class Durations(NamedTuple):
    """Estimated durations of a text in seconds. `fastest` is 0 if the model cannot estimate it."""

    fastest: float
    usual: float


class Generator(Protocol):
    """A model of any architecture. Code outside of `talker.generation` uses models through this interface.

    Attributes:
        tasks: names of the supported tasks.
        tokenizer: converts text to token ids.
        defaults: sampling settings and stop rule for the weights.
        chunk_frames: frames per patch.
        widths: latent channels of each stream.
        scale: (C,) per stream, the standard deviation of each raw latent channel.
        speaker_dim: length of a speaker embedding.
    """

    tasks: tuple[str, ...]
    tokenizer: Tokenizer
    defaults: Defaults
    chunk_frames: int
    widths: dict[str, int]
    scale: Streams
    speaker_dim: int

    def longest(self, text: str, task: str, prefix_frames: int = 0, said: str = "") -> int:
        """Greatest number of frames that can be generated for a text; 0 or less if it does not fit.

        Args:
            text: the text to speak.
            task: name of the task.
            prefix_frames: frames of the prefix.
            said: transcript of the prefix, if `text` does not contain it.
        """
        ...

    def durations(self, text: str) -> Durations:
        """Estimated durations of a text."""
        ...

    def generate(self, request: Request) -> Generation:
        """Generate one request.

        Raises:
            ValueError: the request does not fit the model.
        """
        ...

    def scheduler(self, capacity: int) -> Scheduler:
        """A scheduler that generates up to `capacity` requests at once.

        Raises:
            ValueError: the capacity is not supported.
        """
        ...
