"""What the rest of the system knows of a model: a Request in, raw latents out, patch by patch."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from heads.streams import Streams
from talker.generation.batch import Generation
from talker.generation.request import Request
from talker.generation.scheduler import Scheduler
from talker.model.defaults import Defaults
from talker.text.tokenizer import Tokenizer


class Durations(NamedTuple):
    """How long a text may take to speak, in seconds; fastest: 0 where the model has no idea."""

    fastest: float
    usual: float


class Generator(Protocol):
    """A model of any architecture. The pipeline, the server and batch commands use nothing else of it.

    Attributes:
        tasks: names of the tasks it can do.
        tokenizer: what its text becomes.
        defaults: sampling and stop rule that fit its weights.
        chunk_frames: frames that it generates together: the length of a patch.
        widths: latent channels of each stream.
        scale: (C,) per stream, the usual deviation of each raw latent channel.
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
        """The most frames that can be generated for a text behind a prefix in which `said` is spoken; 0 or
        less where there is no room for any.
        """
        ...

    def durations(self, text: str) -> Durations:
        """Estimates from the text alone."""
        ...

    def generate(self, request: Request) -> Generation:
        """The request alone; ValueError where it does not fit the model."""
        ...

    def scheduler(self, capacity: int) -> Scheduler:
        """Many requests at once; ValueError for a capacity that is not possible."""
        ...
