"""Two independent diffusion transformers that turn one hidden state into the next patch of each stream.

Tokens of a head: [hidden + time] [global condition] [previous patch] [noisy patch] -> velocity of the latter.
Module names follow the published checkpoint (`speech_cfm.estimator.*`, `motion_cfm.estimator.*`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heads.config import DiTConfig, TwoDiTHeadsConfig
from heads.flow import Draws, on_path, velocity_target
from heads.head import Condition
from heads.layers import Block, RMSNorm
from heads.rope import Rope
from heads.solver import Sampling, euler, guide
from heads.streams import Streams


def sinusoid(time: Tensor, width: int) -> Tensor:
    """Times (B,) in [0, 1] as (B, width): sines, then cosines, of 1000 t at `width` / 2 frequencies."""
    half = width // 2
    exponent = torch.arange(half, device=time.device, dtype=time.dtype) * -(math.log(10000.0) / (half - 1))
    angle = 1000.0 * time[:, None] * exponent.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TimeMLP(nn.Module):
    """Linear, SiLU, linear on a time embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, width) -> (B, width)"""
        return self.linear_2(F.silu(self.linear_1(embedding)))


class Decoder(nn.Module):
    """The bidirectional transformer of a head."""

    def __init__(self, width: int, layers: int, heads: int, ffn: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn) for _ in range(layers))
        self.norm = RMSNorm(width)
        self.rope = Rope(width // heads)

    def forward(self, tokens: Tensor, last: int) -> Tensor:
        """(B, T, width) -> (B, last, width): the last tokens, the only ones that the final block computes."""
        rotation = self.rope(tokens.shape[1])
        x = self.input_proj(tokens)
        for block in self.blocks[:-1]:
            x = block(x, rotation)
        return self.norm(self.blocks[-1](x, rotation, last))


class DiT(nn.Module):
    """The velocity of one stream's patch."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.hidden_width != width:
            # Without a bias: a dropped hidden state is zero before and after.
            self.hidden_proj: nn.Module = nn.Linear(config.hidden_width, width, bias=False)
        else:
            self.hidden_proj = nn.Identity()
        if config.hidden_to_tokens:
            self.token_proj = nn.Linear(config.hidden_width, width, bias=False)
        self.in_proj = nn.Linear(config.channels, width)
        self.cond_proj = nn.Linear(config.channels, width)
        self.global_cond_proj = nn.Linear(config.global_channels, width)
        self.out_proj = nn.Linear(width, config.channels)
        self.time_mlp = TimeMLP(width)
        self.delta_time_mlp = TimeMLP(width)
        self.decoder = Decoder(width, config.layers, config.heads, config.ffn)

    def time_token(self, time: Tensor) -> Tensor:
        """(B,) -> (B, width). The second network always sees 0, yet its output is part of the sum."""
        embedding = sinusoid(time, self.config.width).to(self.in_proj.weight.dtype)
        no_step = sinusoid(torch.zeros_like(time[:1]), self.config.width).to(embedding.dtype)
        return self.time_mlp(embedding) + self.delta_time_mlp(no_step)

    def forward(self, x: Tensor, time: Tensor, hidden: Tensor, context: Tensor, global_: Tensor) -> Tensor:
        """Velocity (B, P, C) at x (B, P, C).

        time (B,) or (1,), hidden (B, D), context (B, P, C), global_ (B, G).
        """
        first = self.hidden_proj(hidden) + self.time_token(time)
        noisy = self.in_proj(x)
        if self.config.hidden_to_tokens:
            noisy = noisy + self.token_proj(hidden)[:, None]
        parts = [
            first[:, None],
            self.global_cond_proj(global_)[:, None],
            self.cond_proj(context),
            noisy,
        ]
        return self.out_proj(self.decoder(torch.cat(parts, dim=1), x.shape[1]))


def _twice(x: Tensor) -> Tensor:
    return torch.cat([x, x])


def _guide(flow: Tensor, sampling: Sampling) -> Tensor:
    conditional, unconditional = flow.chunk(2)
    return guide(conditional, unconditional, sampling.guidance, sampling.zero_star)


class TwoDiTHeads(nn.Module):
    """The published head: one DiT a stream, on the same hidden state, unaware of each other."""

    def __init__(self, config: TwoDiTHeadsConfig) -> None:
        super().__init__()
        self.config = config
        for name, own in (("audio", config.audio), ("motion", config.motion)):
            if own is not None:
                self.add_module(name, DiT(own))

    def errors(
        self, condition: Condition, target: Streams, draws: Draws, given: tuple[str, ...] = ()
    ) -> Streams:
        """Squared velocity error, mean over channels: (B, P) for each stream of `target` not `given`."""
        found = {}
        for name, data in target.items():
            if name in given:
                continue
            noise, time = draws.noise[name], draws.time[name]
            velocity = self.get_submodule(name)(
                on_path(data, noise, time),
                time,
                condition.hidden * draws.keep_hidden[name][:, None],
                condition.context[name] * draws.keep_context[name][:, None, None],
                condition.global_[name],
            )
            found[name] = (velocity - velocity_target(data, noise)).square().mean(-1)
        return Streams(**found)

    def sample(
        self, condition: Condition, noise: Streams, sampling: Sampling, given: tuple[str, ...] = ()
    ) -> Streams:
        """The next patch (B, P, C) of each stream of `noise` not `given`, by guided Euler steps."""
        wanted = noise.only(tuple(name for name, _ in noise.items() if name not in given))
        if sampling.guidance == 1:
            return euler(lambda x, time: self._velocity(condition, x, time), wanted, sampling)
        # One batch of 2 B rows; the second half knows all but the hidden state.
        hidden = torch.cat([condition.hidden, torch.zeros_like(condition.hidden)])
        both = Condition(hidden, condition.context.map(_twice), condition.global_.map(_twice))

        def velocity(x: Streams, time: float) -> Streams:
            flows = self._velocity(both, x.map(_twice), time)
            return flows.map(lambda flow: _guide(flow, sampling))

        return euler(velocity, wanted, sampling)

    def _velocity(self, condition: Condition, x: Streams, time: float) -> Streams:
        """Velocity (B, P, C) of each stream of x (B, P, C)."""
        # A time in half precision would be too coarse: the embedding multiplies it by 1000.
        now = torch.full((1,), time, device=condition.hidden.device)
        return Streams(
            **{
                name: self.get_submodule(name)(
                    point, now, condition.hidden, condition.context[name], condition.global_[name]
                )
                for name, point in x.items()
            }
        )
