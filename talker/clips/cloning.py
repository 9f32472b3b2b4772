"""A recording as what comes before: another sentence of the speaker, or the beginning of this one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from heads.streams import Streams
from talker.clips.clip import Voice, stacked
from talker.clock import FRAME_RATE
from talker.errors import UserError
from talker.media.sound import Leveller

if TYPE_CHECKING:
    from talker.pipeline import Talker

LONGEST_PREFIX_SECONDS = 10


def cloned(
    talker: Talker, voice: Voice, pcm: Tensor, text: str | None, prefix_seconds: float | None
) -> Voice:
    """The voice with whole patches of its recording (1, samples) as prefix; see `Talker.voice`.

    Raises:
        UserError: both forms at once, too much or too little to go on from, or a text that cannot be spoken.
    """
    size, vae = talker.patch_frames, talker.audio_vae
    if text is not None and prefix_seconds is not None:
        raise UserError("give the text of the recording or the seconds to go on from, not both")
    samples = pcm.shape[1]
    if prefix_seconds is not None:
        samples = int(min(samples, prefix_seconds * vae.sample_rate)) if prefix_seconds > 0 else 0
    patches = samples // (size * vae.hop)
    seconds = patches * size / FRAME_RATE
    if not patches:
        raise UserError(f"a prefix must have at least {size / FRAME_RATE} s")
    if seconds > LONGEST_PREFIX_SECONDS:
        raise UserError(f"a prefix of {seconds:.1f} s is too long: give {LONGEST_PREFIX_SECONDS} s or less")
    said = [] if text is None else [token for sentence in talker.sentences(text) for token in sentence]
    heard = Leveller()(pcm[0, : patches * size * vae.hop].cpu()).to(talker.device)
    latents = vae.encode(heard[None])[0]
    audio = talker.model.stats.normalise(Streams(audio=latents))["audio"]
    return replace(voice, prefix=audio.unflatten(0, (patches, size)), said=tuple(said))


def behind(prefix: Tensor | None, tail: list[Streams]) -> Streams | None:
    """The prefix of a request: a voice's own (N, P, C), of sound alone, then the patches that are carried."""
    if prefix is None:
        return stacked(tail) if tail else None
    if not tail:
        return Streams(audio=prefix)
    carried = stacked(tail)
    return Streams(audio=torch.cat([prefix, carried["audio"]]), motion=carried.motion)
