"""A small joint head for tests: one network denoises both streams, and uses given streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heads.config import TwoDiTHeadsConfig
from heads.flow import Draws, on_path, velocity_target
from heads.head import Condition, Sampling
from heads.solver import euler
from heads.streams import NAMES, NO_STREAMS, Streams

FRAMES = 4
INNER = 64


@dataclass(frozen=True, kw_only=True)
class ToyJointConfig(TwoDiTHeadsConfig):
    """The sizes of two heads, used by one network."""

    @property
    def joint(self) -> bool:
        """Both streams are predicted from one hidden state."""
        return True

    @classmethod
    def tiny(cls, hidden_width: int = 64) -> ToyJointConfig:
        """The sizes of `TwoDiTHeadsConfig.tiny`."""
        own = TwoDiTHeadsConfig.tiny(hidden_width)
        return cls(audio=own.audio, motion=own.motion)


class ToyJointHead(nn.Module):
    """A network of two layers that maps hidden state, time, context and both patches to both velocities."""

    def __init__(self, config: ToyJointConfig) -> None:
        super().__init__()
        self.config = config
        assert config.audio is not None
        self.channels = FRAMES * sum(config.widths.values())
        globals_ = sum(config.global_widths.values())
        # Both patches, both contexts, which streams are known, both global conditions, hidden state, time.
        width = 2 * self.channels + len(NAMES) + globals_ + config.audio.hidden_width + 1
        self.first, self.second = nn.Linear(width, INNER), nn.Linear(INNER, self.channels)

    def velocity(self, x: Streams, time: Tensor, condition: Condition, hidden: Tensor) -> Streams:
        """x (B, P, C) per stream, time (B,), hidden (B, D) -> velocities as x."""
        known = condition.known or Streams.of(NAMES, lambda _: torch.zeros(len(time), dtype=torch.bool))
        parts = [*(patch.flatten(1) for _, patch in x.items())]
        parts += [*(patch.flatten(1) for _, patch in condition.context.items())]
        parts += [*(mask[:, None].float() for _, mask in known.items())]
        parts += [*(value for _, value in condition.global_.items()), hidden.float(), time[:, None]]
        flat = self.second(torch.tanh(self.first(torch.cat(parts, dim=1))))
        pieces = flat.split([FRAMES * width for width in self.config.widths.values()], dim=1)
        return Streams(**{n: v.unflatten(1, (FRAMES, -1)) for n, v in zip(NAMES, pieces, strict=True)})

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: Streams = NO_STREAMS
    ) -> Streams:
        """See `Head.errors`. Both streams use the time of the audio."""
        time = draws.time["audio"]
        x = target.zip(draws.noise, lambda data, noise: on_path(data, noise, time))
        hidden = condition.hidden * draws.keep_hidden["audio"][:, None]
        made = self.velocity(_with_given(x, condition, given), time, condition, hidden)
        found = {}
        for name, data in target.items():
            errors = (made[name] - velocity_target(data, draws.noise[name])).square().mean(-1)
            rows = None if condition.predicted is None else condition.predicted[name]
            found[name] = errors if rows is None else errors * rows[:, None]
        return Streams(**found)

    def constants(self, sampling: Sampling) -> None:
        """This head needs no constants."""

    def sample(
        self,
        condition: Condition,
        noise: Streams,
        sampling: Sampling,
        given: Streams = NO_STREAMS,
        constants: Any = None,
    ) -> Streams:
        """See `Head.sample`. In every step, given streams are set to their given values."""
        both = Streams.of(NAMES, lambda n: noise[n] if n in noise else torch.zeros_like(condition.context[n]))
        hidden = condition.hidden

        def velocity(x: Streams, time: float) -> Streams:
            now = torch.full((len(hidden),), time)
            return self.velocity(_with_given(x, condition, given), now, condition, hidden)

        return euler(velocity, both, sampling).only(noise.names)


def _with_given(x: Streams, condition: Condition, given: Streams) -> Streams:
    if condition.known is None:
        return x
    known = condition.known
    return Streams.of(x.names, lambda n: torch.where(known[n][:, None, None], given[n], x[n]))
